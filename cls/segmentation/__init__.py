"""Person segmenters behind one Protocol, and the resumable builder that fills the pictures database."""
