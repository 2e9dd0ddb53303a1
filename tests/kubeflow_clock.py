"""When a recurring run is due, as Kubeflow's controller of scheduled workflows reckons it.

Source: `cron_schedule.go` and `periodic_schedule.go` of github.com/kubeflow/pipelines,
backend/src/crd/controller/scheduledworkflow/util. Whether it is enabled does not come into it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import kfp_server_api

DAY = timedelta(days=1)


def due(run: kfp_server_api.V2beta1RecurringRun, last: datetime | None, now: datetime) -> datetime | None:
    """Say which time is the next to be run, if it has come.

    Args:
        run: with a cron once a day, such as ``0 0 3 * * *``, or an interval.
        last: the time that it ran last; None: it has started nothing yet.
        now: the time.
    """
    cron, interval = run.trigger.cron_schedule, run.trigger.periodic_schedule
    start = (cron or interval).start_time
    counted = last or start or run.created_at
    if start is not None and start > counted:
        counted = start
    if cron is not None:
        time = _next_day(cron.cron, counted)
        while run.no_catchup and _next_day(cron.cron, time) <= now:
            time = _next_day(cron.cron, time)
    else:
        step = timedelta(seconds=int(interval.interval_second))
        time = counted + step
        if run.no_catchup and now >= time + step:
            time = now
    return time if time <= now else None


def _next_day(cron: str, after: datetime) -> datetime:
    second, minute, hour, *every_day = cron.split()
    assert every_day == ["*", "*", "*"], "this clock knows days"
    time = after.replace(hour=int(hour), minute=int(minute), second=int(second), microsecond=0)
    return time if time > after else time + DAY
