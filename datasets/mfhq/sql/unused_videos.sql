-- Files that gave nothing, or less than they promise, and why
SELECT uri, status, reason, n_frames, n_frames_decoded
FROM videos
WHERE status <> 'ok' OR reason <> ''
ORDER BY status, reason, uri
