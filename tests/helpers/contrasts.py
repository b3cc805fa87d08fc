"""What most tests tell apart."""
TARGETS = {'the': ' the', 'an': ' an'}
