"""What a request needs: what goes in, what comes out, what is assigned."""
