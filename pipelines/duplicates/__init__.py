"""Near-duplicates: shots that are copies of each other, encoded again, cropped or cut shorter."""
