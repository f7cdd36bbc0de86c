# The control plane.
FROM troupe-compose/base:bookworm
COPY troupe-master /usr/local/bin/
ENTRYPOINT ["troupe-master"]
