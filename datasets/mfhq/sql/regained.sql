-- Rejected faces that other thresholds would keep, by source; --set preset=NAME stands for those of a preset (small)
-- $min_width_px DOUBLE = 40: least width of the face box, px
-- $min_score DOUBLE = 0.75: least detector score
-- $min_sharpness DOUBLE = 25: least sharpness
-- $min_exposure DOUBLE = 0.1: least exposure
-- $max_yaw_deg DOUBLE = 60: largest turn to either side, degrees
-- $max_pitch_deg DOUBLE = 45: largest nod up or down, degrees
-- $max_occlusion DOUBLE = 0.3: largest share of the face that is covered
-- $max_compression DOUBLE = 2: largest blockiness
-- $min_agreement DOUBLE = 0.4: least similarity with the other faces of the track
-- $min_completeness DOUBLE = 0.7: least share of the box within the frame
WITH regained AS (
    SELECT video_id, reason, count(*) AS n
    FROM faces
    WHERE status = 'rejected'
      AND reason IN ('cut_by_border', 'low_score', 'too_small', 'blurred', 'badly_exposed', 'turned_away', 'occluded',
                     'compressed', 'disagrees')
      AND coalesce(x1 - x0, 0) >= $min_width_px AND coalesce(score, 1) >= $min_score
      AND coalesce(sharpness >= $min_sharpness, true) AND coalesce(exposure, 1) >= $min_exposure
      AND coalesce(abs(yaw_deg), 0) <= $max_yaw_deg AND coalesce(abs(pitch_deg), 0) <= $max_pitch_deg
      AND coalesce(occlusion, 0) <= $max_occlusion AND coalesce(compression, 0) <= $max_compression
      AND coalesce(agreement, 1) >= $min_agreement AND coalesce(completeness, 1) >= $min_completeness
    GROUP BY ALL
)
SELECT coalesce(nullif(regexp_extract(v.uri, '^(.*)/[^/]*$', 1), ''), v.uri) AS source, r.reason,
       sum(r.n)::BIGINT AS faces
FROM regained r JOIN videos v USING (video_id)
GROUP BY ALL
ORDER BY faces DESC, source, reason
