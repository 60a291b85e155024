-- A run, the runs that it continues, and for its snapshot the files whose faces it could train on
-- $run VARCHAR = : beginning of the run's id; all runs if empty
-- $split VARCHAR = train: split whose files are listed
-- $this_snapshot VARCHAR = : the snapshot that is open; files of a run on another one are listed with --snapshot
-- $most INTEGER = 1000: most files of a snapshot
WITH RECURSIVE chain AS (
    SELECT *, 0 AS depth FROM runs WHERE starts_with(run_id, $run)
    UNION
    SELECT r.*, c.depth + 1 FROM runs r JOIN chain c ON r.run_id = c.parent_run_id WHERE c.depth < 100
),
used AS (
    SELECT video_id, count(*) AS faces, count(DISTINCT identity_id) AS people
    FROM chosen WHERE split = $split GROUP BY video_id ORDER BY video_id LIMIT $most
)
SELECT depth, 'run' AS what, run_id AS id, kind AS about, snapshot, git_revision, config_hash,
       CAST(NULL AS BIGINT) AS faces, CAST(NULL AS BIGINT) AS people
FROM (SELECT min(depth) AS depth, * EXCLUDE (depth) FROM chain GROUP BY ALL)
UNION ALL
SELECT CAST(NULL AS INTEGER), 'file', v.video_id, v.uri, $this_snapshot, CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR),
       u.faces, u.people
FROM used u JOIN videos v USING (video_id)
WHERE EXISTS (SELECT 1 FROM chain WHERE snapshot = $this_snapshot)
ORDER BY depth NULLS LAST, what DESC, id
