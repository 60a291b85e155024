"""Review of people: choice of the people to review, evidence for a page that shows them, and the decisions."""
