"""What is fast rather than plain: each module is tested against the plain version in minseg/ops."""
