# Boots a machine once from an image, by OpenStack's sushy: URL USER PASSWORD IMAGE.
import sys

import sushy
from sushy import auth

url, user, password, image = sys.argv[1:]
session = auth.SessionAuth(username=user, password=password)
root = sushy.Sushy(url + "/redfish/v1", auth=session, verify=False)
system = root.get_system(root.get_system_collection().members_identities[0])
cd = [m for m in system.managers[0].virtual_media.get_members()
      if sushy.VirtualMediaType.CD in m.media_types][0]
cd.insert_media(image)
cd.refresh()
assert cd.inserted and cd.image == image, (cd.inserted, cd.image)
system.set_system_boot_options(sushy.BootSource.CD, enabled=sushy.BootSourceOverrideEnabled.ONCE,
                               mode=sushy.BootSourceOverrideMode.UEFI)
system.reset_system(sushy.ResetType.FORCE_RESTART)
cd.eject_media()
cd.refresh()
assert not cd.inserted, cd.image
session.close()
