-- The latest attempt at each item that failed, with its error
SELECT a.step, a.item_id, v.uri, a.attempt, a.reason, a.error
FROM attempts a
LEFT JOIN videos v ON v.video_id = a.item_id
WHERE a.status = 'failed'
QUALIFY row_number() OVER (PARTITION BY a.step, a.fingerprint, a.item_id ORDER BY a.attempt DESC) = 1
ORDER BY a.step, v.uri
