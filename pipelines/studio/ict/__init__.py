"""People with the scanned faces of ICT-FaceKit, on the topology of the open head."""
