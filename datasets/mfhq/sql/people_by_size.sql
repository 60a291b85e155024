-- How many people are in so many files, and have so many chosen faces
SELECT n_videos, n_faces, count(*) AS people, sum(n_tracks)::BIGINT AS tracks
FROM identities
GROUP BY ALL
ORDER BY ALL
