"""Who may do what on this box, and the record of what was done."""
