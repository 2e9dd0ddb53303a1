"""Write a workload file: complete, and with comments that say why a value is so and what else it could be."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable
from datetime import datetime, timedelta

import yaml

from gateline.adapters.new_workload.inference import DAY, FoundColumn, FoundTable, widened
from gateline.adapters.new_workload.settings import WINDOWS_PER_EPOCH, Settings, span_in_words
from gateline.workload.section import format_span
from gateline.workload.source import File

WIDTH = 120
UNEVEN = 10.0
"""How many times the level of one series that of another may be before each is scaled by itself."""
SEARCHED = """
model.hidden_size: {low: 16, high: 128, step: 16}
model.dropout: {low: 0.0, high: 0.5, step: 0.05}
model.attention: {choices: [none, dot]}
training.learning_rate: {low: 0.0003, high: 0.02, log: true}
"""
"""What `gateline tune` may try of a forecaster; the proposed settings are among it, as every search asks."""


def workload_text(name: str, file: File, table: FoundTable, settings: Settings) -> str:
    """Write the YAML text of a forecasting workload.

    Args:
        name: of the workload.
        file: the pinned file.
        table: what was found out about it.
        settings: the proposed windows, split and transform.
    """
    parts = [
        _header(name, table, settings),
        _source(file, table),
        _schema(table),
        _preprocess(table, settings),
        _model(),
        _training(settings),
        _evaluation(table, settings),
        _gates(settings),
        search_section(SEARCHED),
        _budgets(name, settings),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def scalar(value: object) -> str:
    """Write one value as YAML reads it back.

    Example:
        >>> scalar("no"), scalar("cnt"), scalar(2.0)
        ("'no'", 'cnt', '2')
    """
    if isinstance(value, float):
        digits, exponent, power = f"{value:.10g}".partition("e")
        # YAML 1.1 takes 1e-07 for a text, and 1.0e-07 for a number.
        return digits + (".0" if exponent and "." not in digits else "") + exponent + power
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def flow(values: Iterable[object]) -> str:
    """Write a list in one line; texts with a meaning inside brackets are quoted."""
    items = [scalar(value) for value in values]
    return (
        "["
        + ", ".join(f"'{item}'" if re.search(r"[,\[\]{}]", item) and item[0] not in "'\"" else item for item in items)
        + "]"
    )


def stamp(time: datetime) -> str:
    """Write a time stamp in UTC; quoted, since DVC cannot keep what YAML reads as a time stamp."""
    return f'"{time:%Y-%m-%dT%H:%M:%SZ}"'


def _comment(text: str, indent: int = 0) -> str:
    lead = " " * indent + "# "
    return "\n".join(textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent=lead, subsequent_indent=lead))


def _header(name: str, table: FoundTable, settings: Settings) -> str:
    target = table.of_role("target")[0].name
    series = f" of {table.series} series" if table.series > 1 else ""
    ahead = span_in_words(settings.horizon, table.frequency)
    description = (
        f"Forecast {target}{series} for each of the next {settings.horizon} steps ({ahead}) from the past {settings.lookback} "
        f"({span_in_words(settings.lookback, table.frequency)})."
    )
    left_out = "".join(f"#   {column}: {why}\n" for column, why in table.dropped.items())
    notes = "".join(_comment(note) + "\n" for note in table.notes)
    return f"""\
# Written by `gateline new` from the data, and yours from here on: every value is a guess that runs, with its reason.
# `gateline check {name}` says what it would do, `gateline run {name}` does it.
{notes}{"# Columns of the file that were left out:" + chr(10) + left_out if left_out else ""}
# Names the artifacts, the MLflow experiment and the registered model.
name: {name}
# The kind of problem: a file in gateline/tasks.
task: forecasting
# One paragraph for people; it stands on the model card.
description: >-
{textwrap.fill(description, WIDTH - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)}
"""


def _source(file: File, table: FoundTable) -> str:
    lines = [
        "# Where the raw data come from. Ingest refuses a file whose bytes are not those that were seen here.",
        "source:",
        "  # What one may do with the data, e.g. CC-BY-4.0. Not known here: say it before you share a model.",
        "  licence: unknown",
        "  # Who is to be named for the data, and where they are described; both may stay empty.",
        '  citation: ""',
        '  homepage: ""',
        "  files:",
        "    # What the query calls the file.",
        f"    - name: {scalar(file.name)}",
        "      # Relative to the project where the file lies in it. A `url` (https, s3, gs) could stand here instead.",
        f"      path: {scalar(file.path)}",
        f"      # Digest of its bytes. After a change on purpose, write the new one: sha256sum {file.path}",
        f"      sha256: {file.sha256}",
        "      # csv or parquet.",
        f"      format: {file.format}",
    ]
    if file.format == "csv":
        lines += ['      # Texts that mean "no value".', f"      missing: {flow(file.missing)}"]
    if table.query is None:
        lines += [
            "  # The file is the table already. A `query` here (one SELECT in DuckDB's SQL over the file by its name) could",
            "  # rename, join or aggregate, e.g. from single transactions to one row per hour.",
        ]
    else:
        stamps = table.of_role("time")[0]
        lines += [
            _comment(
                "One SELECT in DuckDB's SQL over the file by its name; its result is the table. "
                + (f"The time stamp is {stamps.note}. " if stamps.note else "")
                + (f"Left out: {', '.join(table.dropped)}. " if table.dropped else ""),
                2,
            ),
            "  query: |",
            textwrap.indent(table.query, "    "),
        ]
    return "\n".join(lines)


def _schema(table: FoundTable) -> str:
    keys = [column.name for column in table.of_role("key")]
    lines = [
        "# What the table must look like. Validate refuses a table that differs, and says where.",
        "schema:",
        "  time:",
        "    # The column that orders the rows.",
        f"    column: {scalar(table.of_role('time')[0].name)}",
        "    # From one row of a series to the next: the commonest step in the data (units: s, min, h, d, w).",
        f"    frequency: {format_span(table.frequency)}",
        "    # What time stamps without an offset mean. UTC takes the clock as it is written, and has no hour twice; an",
        "    # IANA name such as Europe/Berlin is right only if the file also has its 23- and 25-hour days.",
        "    timezone: UTC",
        _comment(
            f"Time stamps that may be absent between a series' first and last, all series together: {table.absent} of "
            f"{table.absent + table.rows} are. They count as missing values, and are never forecast against.",
            4,
        ),
        f"    max_missing: {_with_room(table.absent)}",
        _comment(
            f"Columns that tell one series from another ({table.series} in the data)."
            if keys
            else "Columns that tell one series from another: none, since no time stamp stands twice.",
            2,
        ),
        f"  keys: {flow(keys)}",
        "  rows:",
        f"    # Fewer rows than nine tenths of today's {table.rows} look like a broken export. There may also be a `max`.",
        f"    min: {max(1, table.rows * 9 // 10)}",
        "  freshness:",
        _comment(
            f"The newest row must be at least this new (the data run from {table.first} to {table.last}). For data that arrive "
            "every day, `max_age: 2d` measures from the moment validate runs instead.",
            4,
        ),
        f"    newest_at_least: {stamp(table.last)}",
        _comment(
            "Every column, in the order of the table. Ranges are a tenth wider than what was seen, so that a new extreme passes "
            "and a wrong unit does not: replace them by what can be true. `violation: missing` with `max_violations: 10` would "
            "take up to ten values outside as missing instead of refusing the data. Units are not known here.",
            2,
        ),
        "  columns:",
    ]
    for column in table.columns:
        lines += _schema_column(column)
    return "\n".join(lines)


def _schema_column(column: FoundColumn) -> list[str]:
    what = {
        "time": "The time stamp of the row",
        "key": "Which series the row belongs to",
        "target": "The target",
        "past": "Past covariate",
        "static": "One value for each series",
    }[column.role]
    seen = "" if column.low is None or column.high is None else f", seen from {column.low:.6g} to {column.high:.6g}"
    note = f"; {column.note}" if column.note else ""
    lines = [_comment(f"{what}{seen}{note}.", 4), f"    {scalar(column.name)}:", f"      type: {column.type}"]
    if column.role in ("target", "past"):
        lines.append('      unit: ""')
    if column.low is not None and column.high is not None:
        low, high = widened(column.low, column.high)
        if column.type == "integer":
            low, high = (0, 1) if (column.low, column.high) == (0, 1) else (math.floor(low), math.ceil(high))
        lines += [f"      min: {scalar(low)}", f"      max: {scalar(high)}"]
    if column.values:
        lines.append(f"      values: {flow(column.values)}")
    if column.missing_share > 0:
        lines += [
            f"      # Share of rows that may have no value; {column.missing_share:.3%} have none.",
            f"      missing_share: {share_with_room(column.missing_share):g}",
        ]
    return lines


def _preprocess(table: FoundTable, settings: Settings) -> str:
    target = table.of_role("target")[0]
    past, static = ([column.name for column in table.of_role(role)] for role in ("past", "static"))
    calendar = [f"{name} {why}" for name, why in table.calendar.items()]
    proposal = (
        "Looks as if it were known ahead: "
        + "; ".join(calendar)
        + ". If so, move it from `past` to here, unless the calendar "
        "below says the same. "
        if calendar
        else ""
    )
    frequency = table.frequency
    lines = [
        "# How the table becomes windows. What is fitted here is fitted on the training part only.",
        "preprocess:",
        _comment(f"The column to forecast; {target.note}.", 2),
        f"  target: {scalar(target.name)}",
        "  # Columns whose values are known up to the moment of forecasting, and no further: the safe choice, since nothing of",
        "  # the future can leak from them.",
        *_names("past", past),
        _comment(
            f"{proposal}Only what is truly known for every step ahead (a timetable, a holiday, a price list) may stand in "
            "`known`: a request to the model must then bring it for the steps to forecast.",
            2,
        ),
        "  known: []",
        "  # Columns with one value for each series.",
        *_names("static", static),
        "  # What the clock and the calendar say, known ahead without a column: sines and cosines of so many harmonics each.",
        "  calendar:",
        "    # Local time of the people concerned; the same as schema.time.timezone, unless the stamps are in UTC.",
        "    timezone: UTC",
        "    # 0 leaves a cycle out; more harmonics draw a sharper shape.",
        *(f"    {line}" for line in _calendar(table)),
        _comment(
            f"By column: arcsinh (skewed, of both signs), log1p (skewed, never below 0) or none. For the target: "
            f"{settings.transform}, since {settings.transform_why}.",
            2,
        ),
        *_transforms(target, settings),
        "  # column: one mean and deviation for all series; series: one for each, where they differ in level or spread.",
        f"  scaling: {'series' if table.levels > UNEVEN else 'column'}",
        "  windows:",
        _comment(
            f"Past steps that the model reads ({span_in_words(settings.lookback, frequency)})"
            + (f"; a season is {settings.season} steps, {settings.season_words}." if settings.season else "."),
            4,
        ),
        f"    lookback: {settings.lookback}",
        f"    # Steps that it forecasts ({span_in_words(settings.horizon, frequency)}).",
        f"    horizon: {settings.horizon}",
        "    # Steps between the first steps of two training windows; more than 1 trains faster on less.",
        "    stride: 1",
        "  split:",
        "    # By time: 70 % to train, 15 % to validate (when to stop, which settings), 15 % to test (judged once).",
        "    rule: time",
        "    # First time stamp of the validation part.",
        f"    validate_from: {stamp(settings.validate_from)}",
        "    # First time stamp of the test part.",
        f"    test_from: {stamp(settings.test_from)}",
        "    # Left out before each of the two, so that the parts are no neighbours: one horizon.",
        f"    embargo: {span_in_words(settings.horizon, frequency)}",
    ]
    return "\n".join(lines)


def _names(key: str, names: list[str]) -> list[str]:
    inline = f"  {key}: {flow(names)}"
    return [inline] if len(inline) <= WIDTH else [f"  {key}:", *(f"    - {scalar(name)}" for name in names)]


def _calendar(table: FoundTable) -> list[str]:
    """A cycle that the data do not cover twice cannot be told from a trend."""
    span = table.last - table.first
    return [
        f"hour_of_day: {2 if table.frequency < DAY else 0}",
        f"day_of_week: {2 if table.frequency <= DAY and span >= 14 * DAY else 0}",
        "day_of_month: 0",
        f"day_of_year: {1 if span >= 730 * DAY else 0}",
        f"weekend: {str(table.frequency <= DAY and span >= 14 * DAY).lower()}",
    ]


def _transforms(target: FoundColumn, settings: Settings) -> list[str]:
    if settings.transform == "none":
        return ["  transforms: {}"]
    return [
        "  transforms:",
        f"    {scalar(target.name)}:",
        f"      kind: {settings.transform}",
        "      # Values are divided by it first: below it the transform is about linear, above it logarithmic.",
        f"      scale: {scalar(settings.transform_scale)}",
    ]


def _model() -> str:
    return """\
# The network; `gateline check` says how many weights it has.
model:
  # direct: the encoder reads the past, the decoder writes all steps of the horizon. recursive: it reads its own forecast of
  # the step before. segment, with e.g. `segment: 24`: both read several steps as one, for windows of hundreds of steps.
  mode: direct
  # lstm, gru (fewer weights), layer_norm_lstm, slstm; each is a file in gateline/cells.
  cell: lstm
  # Numbers that a cell remembers; twice as many are four times as slow, and need more data.
  hidden_size: 64
  # Cells on top of each other.
  num_layers: 1
  # Share of what the output layer reads that is blanked while training; more if validation gets worse as training goes on.
  dropout: 0.1
  # none; last_value: forecast the difference from the last value; revin: in units of each window's own mean and deviation.
  normalisation: none
  # Levels to forecast, e.g. [0.1, 0.5, 0.9], with `training.loss: pinball`; none: the point forecast only.
  quantiles: []
  # Coverages, e.g. [0.8, 0.95], of intervals around the forecast, calibrated on the validation part.
  intervals: []
  # none, dot or additive: each step of the horizon looks back at all past steps.
  attention: none
  # Add a linear forecast from the past target; the cells learn what it leaves over. It makes a good forecast of little data.
  linear_path: true
  # Beside the cells, a ridge regression on what they read of each step, averaged into the forecast: the two err differently. Where `ridge` of
  # the evaluation is ahead or near, try {lags: 24, covariate_lags: 24, known: true, penalty: 30, share: 0.5}.
  ridge_path: null
"""


def _training(settings: Settings) -> str:
    share = min(1.0, WINDOWS_PER_EPOCH / settings.train_windows)
    batch = 64 if settings.train_windows >= 2000 else 32
    return f"""\
# How the weights are found. Seed, device and precision are run-wide, in params.yaml.
training:
  # absolute (the median of what may come), squared (the mean), huber (between the two), or pinball for `model.quantiles`.
  loss: absolute
  # adam, adamw or sgd.
  optimiser: adamw
  learning_rate: 0.002
  weight_decay: 0.0001
  # How the learning rate goes on: constant, cosine, one_cycle, step (a fall every few epochs) or plateau (a fall when the
  # validation gets no better).
  schedule: cosine
  # Windows in one step of the optimiser.
  batch_size: {batch}
  # Passes over the training windows, at most.
  epochs: 20
  # Epochs in a row without a better validation loss before training stops.
  patience: 5
  # Largest norm of the gradient; null does not clip.
  clip_norm: 1.0
  # Share of the about {settings.train_windows:,} training windows that one epoch draws, so that an epoch takes seconds.
  examples_per_epoch: {max(share, 0.001):.3g}
  # Decay of a moving average of the weights that is validated and kept; 0 keeps the weights themselves.
  weight_average: 0.0
"""


def _evaluation(table: FoundTable, settings: Settings) -> str:
    keys = [column.name for column in table.of_role("key")] if 1 < table.series <= 50 else []
    season = settings.season or 1
    return f"""\
# What the model is compared with, on the same test windows.
evaluation:
  # Steps of one season ({settings.season_words if settings.season else "none that is whole was found: 1"}); what seasonal_naive repeats.
  season: {season}
  # Steps after which the whole pattern repeats, e.g. a week of hours; the positions of seasonal_median.
  cycle: {cycle_of(table, season)}
  # Also known: gradient_boosting, which takes minutes.
  baselines: {flow(baselines_of(settings))}
  # Key columns whose values get metrics of their own.
  slices: {flow(keys)}
"""


def cycle_of(table: FoundTable, season: int) -> int:
    """Steps of a week where a season is a day and the data hold some weeks, else the season."""
    week = timedelta(days=7) / table.frequency
    daily = season > 1 and season * table.frequency == DAY
    return int(week) if daily and week.is_integer() and table.last - table.first >= 28 * DAY else season


def baselines_of(settings: Settings) -> list[str]:
    """Name the baselines; seasonal ones only where there is a season."""
    seasonal = ["seasonal_naive", "seasonal_median"] if settings.season else []
    return ["last_value", *seasonal, "ridge"]


def _gates(settings: Settings) -> str:
    beaten = ["last_value", *(["seasonal_naive"] if settings.season else [])]
    sure = ", confidence: 0.95" if settings.tells_chance else ""
    baselines = "\n".join(f"    {name}: {{rule: superior, margin: 0.0{sure}}}" for name in beaten)
    chance = "confidence: shown with it, by a bound on the difference (block bootstrap); without, compared as measured"
    short = (
        "" if settings.tells_chance else f", as here: {settings.test_times:,} points of time are too few to demand more"
    )
    enough = max(1, settings.test_windows // 2)
    return f"""\
# What a model must pass before it is registered as champion. Editing this never trains again.
gates:
  # What models are compared by, lower is better: mae (mean absolute error, in the target's unit), rmse, ...
  metric: mae
  # Fewer test windows cannot be judged; there should be about {settings.test_windows:,}.
  min_examples: {enough}
  # superior: better by more than the margin (a share: 0.02 is 2 %); non_inferior: not worse by more than that.
  # {chance}{short}.
  baselines:
{baselines}
  # Absolute bounds by metric, e.g. mae: {{max: 12.5}}. None yet: set them when it is known what the forecast is used for.
  limits: {{}}
  # How much worse than the champion, as a share, any slice may get.
  slice_margin: 0.1
  # Against the model in production, on the same windows: better, with this confidence (block bootstrap, so many resamples).
  champion: {{rule: superior, margin: 0.0, confidence: 0.95, resamples: 2000}}
"""


def search_section(settings: str) -> str:
    """Write the section `search`, from the lines of its settings."""
    return f"""\
# What `gateline tune` may try, judged by `training.monitor` on the validation part. Editing this runs no step again.
search:
  # Keys of model and training. A range of numbers (with `step`, or `log` for orders of magnitude), or `choices`.
  settings:
{textwrap.indent(textwrap.dedent(settings).strip(), "    ")}
  # tpe looks near what was good, after so many trials at random; or random.
  sampler: {{kind: tpe, seed: 0, startup_trials: 10}}
  # median ends a trial that is worse than half of the others at the same epoch, but not before so many epochs; or none.
  pruner: {{kind: median, startup_trials: 5, warm_up_epochs: 2}}
"""


def _budgets(name: str, settings: Settings) -> str:
    beaten = "seasonal_naive" if settings.season else "last_value"
    return f"""\
# Smaller runs, e.g. `gateline run {name} --budget smoke`: does everything work?
budgets:
  smoke:
    training.epochs: 1
    gates.baselines: {{{beaten}: {{rule: non_inferior, margin: 0.9}}}}
"""


def _with_room(count: int) -> int:
    return 0 if count == 0 else count + max(1, count // 10)


def share_with_room(share: float) -> float:
    """Allow a tenth more missing values than were seen, as a share that is rounded up to a thousandth."""
    return min(1.0, -(-share * 1.1 // 0.001) * 0.001)
