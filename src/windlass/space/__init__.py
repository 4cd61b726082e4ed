"""WHERE: parameters, conditions, rules and constraints; the unit cube; from a proposal to a config."""
