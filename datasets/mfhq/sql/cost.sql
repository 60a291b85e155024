-- What each step cost, every attempt counted
SELECT step, sum(items)::BIGINT AS items, sum(attempts)::BIGINT AS attempts,
       coalesce(sum(attempts) FILTER (status = 'failed'), 0)::BIGINT AS failures, round(sum(seconds), 1) AS seconds,
       round(sum(seconds) / sum(attempts), 3) AS seconds_an_attempt, round(sum(bytes) / 1e6, 1) AS megabytes
FROM costs
GROUP BY step
ORDER BY seconds DESC, step
