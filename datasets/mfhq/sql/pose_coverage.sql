-- Chosen faces by turn of the head
-- $step_deg INTEGER = 15: width of a step, degrees
SELECT CAST($step_deg * round(yaw_deg / $step_deg) AS INTEGER) AS yaw_deg,
       CAST($step_deg * round(pitch_deg / $step_deg) AS INTEGER) AS pitch_deg,
       count(*) AS faces, count(DISTINCT identity_id) AS people
FROM chosen
GROUP BY ALL
ORDER BY ALL
