-- Each person: tracks, files, chosen faces, and how far they turn their head
SELECT i.identity_id, i.split, i.n_tracks, i.n_videos, i.n_faces, round(i.cohesion, 3) AS cohesion,
       round(max(f.yaw_deg) - min(f.yaw_deg), 1) AS yaw_range_deg,
       list_sort(list(DISTINCT v.uri)) AS files
FROM identities i
JOIN assignments a USING (identity_id)
JOIN tracks t USING (track_id)
JOIN videos v USING (video_id)
LEFT JOIN faces f ON f.track_id = t.track_id AND f.status = 'ok'
GROUP BY ALL
ORDER BY i.n_faces DESC, i.identity_id
