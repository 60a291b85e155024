-- What became of everything, stage by stage, and what it cost
SELECT stage, reason, items, round(100 * share, 1) AS percent, round(seconds, 1) AS seconds
FROM funnel
