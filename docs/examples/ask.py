"""Ask a served champion for the next twelve hours: ``python docs/examples/ask.py http://127.0.0.1:5001/invocations``.

A request is rows of the table in raw units: 48 hours of the past of each airport, then the 12 hours to forecast, of which
only the flight plan is known. A workload without columns that are known ahead is sent the past alone: docs/serving.md.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request

import pandas as pd

PAST, AHEAD = 48, 12
KNOWN = ["airport", "hour", "scheduled", "mean_distance", "regional_share"]

table = pd.read_parquet("artifacts/flight_delays/prepared/table.parquet")
rows = table[table["hour"] < "2013-12-21T03:00:00Z"].groupby("airport").tail(PAST + AHEAD).reset_index(drop=True)
future = rows.groupby("airport").cumcount() >= PAST
unknown = [name for name in rows.columns if name not in KNOWN]
truth = rows.loc[future, ["airport", "hour", "delay"]]
rows.loc[future, unknown] = None

for _ in range(60):  # the server takes some seconds to load the model
    try:
        urllib.request.urlopen(sys.argv[1].replace("/invocations", "/ping"), timeout=5)
        break
    except OSError:
        time.sleep(1)

request = urllib.request.Request(
    sys.argv[1],
    data=json.dumps(
        {"dataframe_split": json.loads(rows.to_json(orient="split", date_format="iso", index=False))}
    ).encode(),
    headers={"Content-Type": "application/json"},
)
with urllib.request.urlopen(request, timeout=60) as answer:
    forecast = pd.DataFrame(json.load(answer)["predictions"])
forecast["observed"] = truth["delay"].to_numpy()
print(forecast.round(1).to_string(index=False))
