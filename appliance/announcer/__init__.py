"""What the box says aloud: the queue of announcements and the loudspeaker."""
