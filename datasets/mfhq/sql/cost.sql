-- What each step cost, every attempt counted
SELECT step, count(DISTINCT item_id) AS items, count(*) AS attempts, count(*) FILTER (status = 'failed') AS failures,
       round(sum(seconds), 1) AS seconds, round(avg(seconds), 3) AS seconds_an_attempt,
       round(sum(bytes) / 1e6, 1) AS megabytes
FROM attempts
GROUP BY step
ORDER BY seconds DESC
