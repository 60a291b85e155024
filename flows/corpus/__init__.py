"""Commands on a corpus that are no Prefect flow: plan, replay, calibrate, overlap, review, recrop, take-down, SQL, report."""
