-- One row per scheduled flight of [$start, $end): key, time and features as they stand at scheduled departure.
-- Views: flights, weather, planes (data/README.md). Session time zone: UTC. $start, $end: TIMESTAMPTZ, a range of sched_dep.
--
-- An outcome is known 24 hours after its flight's scheduled departure (labels.sql). A late rate over N days takes the
-- outcomes whose known_at lies in the N days before the row's hour began; none, no rate. Counted in hours h of scheduled
-- departure that is h - 24 * (N + 1) to h - 25: the newest, departing at h - 25:59, was known a minute before h began.
-- So flights must reach back 29 days and an hour before $start (lookback: 30 days). What lies further back changes
-- nothing, nor does where a range is cut: a day, a month and a quarter give the same rows.
-- Rates are quotients of integer sums, which no order of summation can change.
WITH
scheduled AS (
    SELECT
        time_hour + to_minutes(minute) AS sched_dep,
        epoch_us(time_hour) // 3600000000 AS h,
        make_date(year, month, day) AS local_day,
        origin, carrier, flight, dest, tailnum, year, time_hour, distance,
        hour * 60 + minute AS minute_of_day,
        sched_arr_time // 100 * 60 + sched_arr_time % 100 AS arrival_minute,
        CAST(arr_delay > 15 AS INTEGER) AS late  -- null: cancelled, or never reached its destination
    FROM flights
    WHERE time_hour >= $start - INTERVAL 30 DAYS AND time_hour < $end
),

-- The timetable is known long before, so the row's own hour counts in full. Whole hours: $end cannot cut one.
origin_hours AS (
    SELECT
        origin, h,
        count(*) AS flights,
        sum(sum(late)) OVER last_1d / nullif(sum(count(late)) OVER last_1d, 0) AS late_1d,
        sum(sum(late)) OVER last_7d / nullif(sum(count(late)) OVER last_7d, 0) AS late_7d,
        sum(sum(late)) OVER last_28d / nullif(sum(count(late)) OVER last_28d, 0) AS late_28d
    FROM scheduled
    GROUP BY origin, h
    WINDOW
        last_1d AS (PARTITION BY origin ORDER BY h RANGE BETWEEN 48 PRECEDING AND 25 PRECEDING),
        last_7d AS (PARTITION BY origin ORDER BY h RANGE BETWEEN 192 PRECEDING AND 25 PRECEDING),
        last_28d AS (PARTITION BY origin ORDER BY h RANGE BETWEEN 696 PRECEDING AND 25 PRECEDING)
),

carrier_hours AS (
    SELECT
        carrier, h,
        count(*) AS flights,
        sum(sum(late)) OVER last_1d / nullif(sum(count(late)) OVER last_1d, 0) AS late_1d,
        sum(sum(late)) OVER last_7d / nullif(sum(count(late)) OVER last_7d, 0) AS late_7d,
        sum(sum(late)) OVER last_28d / nullif(sum(count(late)) OVER last_28d, 0) AS late_28d
    FROM scheduled
    GROUP BY carrier, h
    WINDOW
        last_1d AS (PARTITION BY carrier ORDER BY h RANGE BETWEEN 48 PRECEDING AND 25 PRECEDING),
        last_7d AS (PARTITION BY carrier ORDER BY h RANGE BETWEEN 192 PRECEDING AND 25 PRECEDING),
        last_28d AS (PARTITION BY carrier ORDER BY h RANGE BETWEEN 696 PRECEDING AND 25 PRECEDING)
),

dest_hours AS (
    SELECT
        dest, h,
        count(*) AS flights,
        sum(sum(late)) OVER last_7d / nullif(sum(count(late)) OVER last_7d, 0) AS late_7d,
        sum(sum(late)) OVER last_28d / nullif(sum(count(late)) OVER last_28d, 0) AS late_28d
    FROM scheduled
    GROUP BY dest, h
    WINDOW
        last_7d AS (PARTITION BY dest ORDER BY h RANGE BETWEEN 192 PRECEDING AND 25 PRECEDING),
        last_28d AS (PARTITION BY dest ORDER BY h RANGE BETWEEN 696 PRECEDING AND 25 PRECEDING)
),

-- One row each in the source; DISTINCT so that not even a damaged one could multiply flights.
hourly_weather AS (
    SELECT DISTINCT ON (origin, time_hour)
        origin, time_hour, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
    FROM weather
    WHERE time_hour >= $start - INTERVAL 1 HOUR AND time_hour < $end
    ORDER BY ALL
),

known_planes AS (
    SELECT DISTINCT ON (tailnum) tailnum, year, seats FROM planes ORDER BY ALL
)

SELECT
    s.local_day || '-' || s.carrier || s.flight || '-' || s.origin AS flight_id,
    s.sched_dep,

    -- The timetable. Times of day are local to their airport, so scheduled_minutes carries the time zones between them.
    s.origin,
    s.carrier,
    s.dest,
    CAST(s.minute_of_day AS DOUBLE) AS minute_of_day,
    CAST(isodow(s.local_day) AS DOUBLE) AS weekday,
    CAST((s.arrival_minute - s.minute_of_day + 1440) % 1440 AS DOUBLE) AS scheduled_minutes,
    CAST(s.distance AS DOUBLE) AS distance,

    -- Load: flights scheduled in the same hour.
    CAST(o.flights AS DOUBLE) AS origin_hour_flights,
    CAST(c.flights AS DOUBLE) AS carrier_hour_flights,
    CAST(d.flights AS DOUBLE) AS dest_hour_flights,

    -- The plane, where the registry knows it.
    CAST(s.year - p.year AS DOUBLE) AS plane_age,
    CAST(p.seats AS DOUBLE) AS plane_seats,

    -- Observed at the origin in the scheduled hour: a stand-in for a forecast. Null where not observed, dirt left in.
    w.temp,
    w.dewp,
    w.humid,
    CAST(w.wind_dir AS DOUBLE) AS wind_dir,
    w.wind_speed,
    w.wind_gust,
    w.precip,
    w.pressure,
    w.visib,

    -- Shares of flights that arrived more than 15 minutes late, among the outcomes known by then.
    o.late_1d AS origin_late_1d,
    o.late_7d AS origin_late_7d,
    o.late_28d AS origin_late_28d,
    c.late_1d AS carrier_late_1d,
    c.late_7d AS carrier_late_7d,
    c.late_28d AS carrier_late_28d,
    d.late_7d AS dest_late_7d,
    d.late_28d AS dest_late_28d
FROM scheduled AS s
LEFT JOIN origin_hours AS o ON o.origin = s.origin AND o.h = s.h
LEFT JOIN carrier_hours AS c ON c.carrier = s.carrier AND c.h = s.h
LEFT JOIN dest_hours AS d ON d.dest = s.dest AND d.h = s.h
LEFT JOIN hourly_weather AS w ON w.origin = s.origin AND w.time_hour = s.time_hour
LEFT JOIN known_planes AS p ON p.tailnum = s.tailnum
WHERE s.sched_dep >= $start AND s.sched_dep < $end
ORDER BY s.sched_dep, flight_id
