-- Each person: tracks, files, chosen faces, and how far they turn their head
-- $videos INTEGER = 0: fewest files of a person
-- $faces INTEGER = 0: fewest chosen faces of a person
-- $most INTEGER = 1000: most people, those with the most faces first
WITH shown AS (
    SELECT * FROM identities
    WHERE n_videos >= $videos AND n_faces >= $faces
    ORDER BY n_faces DESC, identity_id
    LIMIT $most
),
turns AS (
    SELECT identity_id, max(yaw_deg) - min(yaw_deg) AS yaw_range_deg, list_sort(list(DISTINCT uri)) AS files
    FROM chosen SEMI JOIN shown USING (identity_id) JOIN videos USING (video_id)
    GROUP BY identity_id
)
SELECT identity_id, split, n_tracks, n_videos, n_faces, round(cohesion::DOUBLE, 3) AS cohesion,
       round(yaw_range_deg::DOUBLE, 1) AS yaw_range_deg, files
FROM shown LEFT JOIN turns USING (identity_id)
ORDER BY n_faces DESC, identity_id
