-- Licences and consent of the files, and how much of the training data rests on each
WITH stated AS (
    SELECT video_id, status, duration_s, coalesce(licence, 'not stated') AS licence,
           coalesce(consent, 'not stated') AS consent
    FROM videos
),
files AS (
    SELECT licence, consent, count(*) AS files, count(*) FILTER (status = 'ok') AS ok_files,
           round(sum(duration_s) / 3600, 3) AS hours
    FROM stated GROUP BY ALL
),
used AS (
    SELECT licence, consent, count(*) AS chosen_faces, count(DISTINCT identity_id) AS people
    FROM chosen JOIN stated USING (video_id) GROUP BY ALL
)
SELECT licence, consent, files, ok_files, hours, coalesce(chosen_faces, 0) AS chosen_faces, coalesce(people, 0) AS people
FROM files LEFT JOIN used USING (licence, consent)
ORDER BY files DESC, licence, consent
