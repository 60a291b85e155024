-- Chosen faces by how far the mouth is open (lips' distance over the mouth's width), and why they were chosen
-- $step DOUBLE = 0.1: width of a step
SELECT round($step * floor(mouth_open / $step), 6) AS mouth_open_from, why,
       count(*) AS faces, count(DISTINCT identity_id) AS people
FROM chosen
GROUP BY ALL
ORDER BY ALL
