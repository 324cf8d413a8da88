// Replays a download case in the origin private file system, which only workers write.

import { OpfsSlot } from "../../runtimes/web/dist/opfs_slot.js";
import { replay } from "./downloads.mjs";

onmessage = async ({ data: { golden, c, url } }) => {
    try {
        postMessage(await replay(golden, c, url, () => OpfsSlot.open(url)));
    } catch (error) {
        postMessage(`${error}`);
    }
};
