-- People with many chosen faces that look aside
-- $beyond_deg DOUBLE = 30: least turn to either side, degrees
-- $faces INTEGER = 5: fewest such faces of a person
SELECT identity_id, split, count(*) AS turned_faces, round(max(abs(yaw_deg))::DOUBLE, 1) AS furthest_deg
FROM chosen
WHERE abs(yaw_deg) > $beyond_deg
GROUP BY identity_id, split
HAVING count(*) >= $faces
ORDER BY turned_faces DESC, identity_id
