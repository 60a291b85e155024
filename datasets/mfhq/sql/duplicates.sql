-- Files that are copies of others, the closest first
-- $most INTEGER = 1000: most files
SELECT v.uri AS copy, o.uri AS original, round(v.duplicate_distance::DOUBLE, 2) AS bits_of_64,
       v.width AS copy_width, o.width AS original_width, v.licence AS copy_licence, o.licence AS original_licence
FROM videos v LEFT JOIN videos o ON o.video_id = v.duplicate_of
WHERE v.duplicate_of IS NOT NULL
ORDER BY bits_of_64, copy
LIMIT $most
