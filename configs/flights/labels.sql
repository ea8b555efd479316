-- One row per scheduled flight of [$start, $end): whether it arrived more than 15 minutes late, and since when that is known.
--
-- Views: flights (columns: data/README.md). Session time zone: UTC. $start, $end: TIMESTAMPTZ, a half-open range of sched_dep.
-- A day after scheduled departure suffices: lateness is decided 15 minutes after scheduled arrival, at most 13 hours on.
-- A null `late` with its known_at says that the flight never gets a label: it was cancelled, or never reached its destination.
SELECT
    make_date(year, month, day) || '-' || carrier || flight || '-' || origin AS flight_id,
    CAST(arr_delay > 15 AS INTEGER) AS late,
    time_hour + to_minutes(minute) + INTERVAL 24 HOUR AS known_at
FROM flights
WHERE time_hour + to_minutes(minute) >= $start AND time_hour + to_minutes(minute) < $end
ORDER BY known_at, flight_id
