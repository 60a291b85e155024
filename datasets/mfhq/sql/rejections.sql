-- Why faces were left out, by source (the folder of the file)
-- $source VARCHAR = : beginning of the sources' names
-- $most INTEGER = 200: most rows, the largest first
WITH counted AS (SELECT video_id, status, reason, count(*) AS n FROM faces GROUP BY ALL),
placed AS (
    SELECT coalesce(nullif(regexp_extract(v.uri, '^(.*)/[^/]*$', 1), ''), v.uri) AS source, c.status, c.reason, c.n
    FROM counted c JOIN videos v USING (video_id)
    WHERE starts_with(v.uri, $source)
),
summed AS (SELECT source, status, reason, sum(n)::BIGINT AS faces FROM placed GROUP BY ALL),
shares AS (SELECT *, round(100 * faces / sum(faces) OVER (PARTITION BY source), 1) AS percent_of_source FROM summed)
SELECT source, reason, faces, percent_of_source
FROM shares
WHERE status <> 'ok'
ORDER BY faces DESC, source, reason
LIMIT $most
