-- Chosen faces by turn of the head, in steps of 15 degrees
SELECT CAST(15 * round(yaw_deg / 15) AS INTEGER) AS yaw_deg, CAST(15 * round(pitch_deg / 15) AS INTEGER) AS pitch_deg,
       count(*) AS faces, count(DISTINCT identity_id) AS people
FROM identity_faces
JOIN faces USING (face_id)
GROUP BY ALL
ORDER BY ALL
