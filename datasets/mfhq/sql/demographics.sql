-- What the data sets' own lists say of the people; nothing is inferred from images
SELECT name, value, count(DISTINCT identity_id) AS people,
       count(DISTINCT identity_id) FILTER (split = 'train') AS train,
       count(DISTINCT identity_id) FILTER (split = 'val') AS val,
       count(DISTINCT identity_id) FILTER (split = 'test') AS test
FROM participants LEFT JOIN (SELECT DISTINCT identity_id, split FROM views) USING (identity_id)
GROUP BY name, value
ORDER BY name, people DESC, value
