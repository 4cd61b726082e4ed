"""WHERE: parameters and their conditions, rules, constraints, encoding to the unit cube, config generation."""
