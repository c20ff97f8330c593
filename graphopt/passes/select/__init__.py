"""What a request needs of a Program, in ops that the runtime has."""
