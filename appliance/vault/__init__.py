"""What is kept encrypted: keys, the encrypted form of files and values, and where plaintext may lie for a while."""
