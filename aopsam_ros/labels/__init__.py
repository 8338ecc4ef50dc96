"""What masks show (SAM-CP): label sets, the nearest label of a mask, parts united to things."""
