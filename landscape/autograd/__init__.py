"""What torch needs so that a network is differentiated twice, rightly and cheaply."""
