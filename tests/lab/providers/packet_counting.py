"""A packet filter that counts, drops TCP packets to one port, and delays those to another for a moment."""

import asyncio

from network_extension import Direction, FilterPacketProvider, FilterPacketVerdict


class PacketCounting(FilterPacketProvider):
    async def start_filter(self):
        self.counts = {Direction.OUTBOUND: 0, Direction.INBOUND: 0}
        self.interfaces = set()

    def handle_packet(self, context, interface, direction, data):
        self.counts[direction] += 1
        self.interfaces.add(interface)
        if data[0] >> 4 == 4 and data[9] == 6:
            port = int.from_bytes(data[22:24], "big")
            if port == self.configuration.get("drop"):
                return FilterPacketVerdict.DROP
            if port == self.configuration.get("delay"):
                packet = self.delay_current_packet(context)
                asyncio.get_running_loop().call_later(0.2, self.allow_packet, packet)
                return FilterPacketVerdict.DELAY
        return FilterPacketVerdict.ALLOW

    async def stop_filter(self, reason):
        out, into = self.counts[Direction.OUTBOUND], self.counts[Direction.INBOUND]
        self.log(f"packets: {out} out, {into} in, by {','.join(sorted(self.interfaces))}")
