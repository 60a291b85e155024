-- What could carry a person from training into another split; no rows is the good answer
WITH placed AS (SELECT DISTINCT video_id, split, identity_id FROM chosen),
copied AS (
    SELECT v.video_id, c.split, o.split AS other
    FROM videos v JOIN placed c ON c.video_id = v.video_id JOIN placed o ON o.video_id = v.duplicate_of
    WHERE v.duplicate_of IS NOT NULL AND c.split <> o.split
)
SELECT 'a person in two splits' AS leak, identity_id AS id, list_sort(list(DISTINCT split)) AS splits
FROM placed GROUP BY identity_id HAVING count(DISTINCT split) > 1
UNION ALL
SELECT 'a file that shows people of two splits', video_id, list_sort(list(DISTINCT split))
FROM placed GROUP BY video_id HAVING count(DISTINCT split) > 1
UNION ALL
SELECT 'a copy of a file that shows people of another split', video_id, list_sort(list_distinct(list(split) || list(other)))
FROM copied GROUP BY video_id
UNION ALL
SELECT 'an id that stands for a person of another split', a.identity_id, list_sort([p.split, q.split])
FROM aliases a JOIN identities p ON p.identity_id = a.identity_id JOIN identities q ON q.identity_id = a.now
WHERE p.split <> q.split
ORDER BY ALL
