-- Files that are copies of others for the most part, with the shots that are copied
SELECT v.uri, o.uri AS duplicate_of, round(v.duplicate_distance, 2) AS distance, v.status, v.reason,
       count(d.shot_index) AS copied_shots
FROM videos v
LEFT JOIN videos o ON o.video_id = v.duplicate_of
LEFT JOIN duplicates d ON d.video_id = v.video_id AND d.rank = 0
WHERE v.duplicate_of IS NOT NULL
GROUP BY ALL
ORDER BY o.uri, v.uri
