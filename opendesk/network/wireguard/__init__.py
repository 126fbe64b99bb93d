"""WireGuard by its own program, `wg`: what an interface holds, and changes to it. Knows nothing of ours.

    wg = Wg("wg0")
    interface = await wg.read()                       # whole, or a WgError: never half of it, and never an empty one for one that can't be read
    await wg.apply([Put(key, ("10.200.0.7/32",), keepalive=25), Remove(old)])     # in this order, a thousand in one call
    (await wg.read()).peers[key].allowed_ips          # an address moves from peer to peer without a word: read again

What is secret goes to `wg` by its input or by files that are only in memory, and is in no argument, no log and no repr. `keys` and `prefixes`
say what `wg` would take silently and shouldn't be given: the zero key, addresses with bits right of their mask, ports that wrap around.
`interface` makes an interface where there is none, `key_file` keeps its key.
"""
