"""Images and captures of studio people: portraits as arrays, and data sets in the layouts of captures."""
