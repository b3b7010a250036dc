import Glibc
import LinuxSystem

/// The host's packet filter for sandboxes: nftables' table `inet smirun` in the host's network namespace.
///
/// Its rules are loaded once by `nft`; what changes per sandbox are elements of sets, each change one netlink
/// transaction. The sets outlive the daemon, and so does a block.
package struct PacketFilter: Sendable {
    /// Name of the table, of family `inet`.
    package static let table = "smirun"
    /// The IPv4 network of all SMIs, such as `10.88.0.0/16`.
    package let network4: String
    /// The IPv6 network of all SMIs, such as `fd53:4d49::/64`.
    package let network6: String

    /// The filter for SMIs of these networks.
    package init(network4: String = "10.88.0.0/16", network6: String = "fd53:4d49::/64") {
        self.network4 = network4
        self.network6 = network6
    }

    /// Loads the rules, in one transaction that leaves the sets' elements as they are.
    package func prepare() throws {
        let result: HelperResult
        do {
            result = try HelperCommand(["nft", "-f", "-"]).run(input: rules)
        } catch {
            throw IsolationError(
                .hostUnsuitable,
                cause: "the packet filter cannot be set up: \(error)",
                remedy: "install nftables"
            )
        }
        guard result.status == 0 else {
            throw IsolationError(
                .hostUnsuitable,
                cause: "nft refused the packet filter of sandboxes",
                remedy: "check that the kernel has nftables with family inet (CONFIG_NF_TABLES_INET) and conntrack",
                log: result.error
            )
        }
    }

    /// Removes the table with everything in it; for tests and for a host that leaves the cluster.
    package func remove() throws {
        _ = try HelperCommand(["nft", "-f", "-"]).run(
            input: "add table inet \(Self.table)\ndelete table inet \(Self.table)"
        )
    }

    /// Lets a link carry a sandbox's addresses and no others.
    ///
    /// `blocked`: no packet passes either way for now.
    package func admit(_ address: SandboxAddress, blocked: Bool) throws {
        var batch = PacketFilterBatch(table: Self.table)
        let link = PacketFilterBatch.key(interface: address.hostLink)
        let (ipv4, ipv6) = try address.parsed()
        if blocked { batch.add(link, to: "blocked") } else { batch.remove(link, from: "blocked") }
        batch.add(link + ipv4.bytes, to: "sources4")
        batch.add(link + ipv6.bytes, to: "sources6")
        batch.add(link, to: "sandboxes")
        try batch.commit(over: NetlinkSocket(.netfilter))
    }

    /// Forgets a sandbox's link.
    package func forget(_ address: SandboxAddress) throws {
        var batch = PacketFilterBatch(table: Self.table)
        let link = PacketFilterBatch.key(interface: address.hostLink)
        let (ipv4, ipv6) = try address.parsed()
        batch.remove(link, from: "sandboxes")
        batch.remove(link + ipv4.bytes, from: "sources4")
        batch.remove(link + ipv6.bytes, from: "sources6")
        batch.remove(link, from: "blocked")
        do {
            try batch.commit(over: NetlinkSocket(.netfilter))
        } catch {
            // No table: nothing to forget.
            if error.code != ENOENT { throw error }
        }
    }

    /// Drops every packet to and from a link, or lets them pass again.
    package func setBlocked(_ blocked: Bool, _ address: SandboxAddress) throws(SyscallError) {
        var batch = PacketFilterBatch(table: Self.table)
        let link = PacketFilterBatch.key(interface: address.hostLink)
        if blocked { batch.add(link, to: "blocked") } else { batch.remove(link, from: "blocked") }
        try batch.commit(over: NetlinkSocket(.netfilter))
    }

    /// Lets packets pass again, while `body` runs from the moment on at which they do.
    ///
    /// The filter's commit returns milliseconds after that moment. Where it is not seen to come, `body` runs at the end.
    package func open(_ address: SandboxAddress, _ body: () throws -> Void) throws {
        let link = PacketFilterBatch.key(interface: address.hostLink)
        var isDone = false
        _ = try alongside {
            try setBlocked(false, address)
        } _: {
            let socket = try NetlinkSocket(.netfilter)
            let deadline = ContinuousClock.now + .milliseconds(20)
            while try PacketFilterBatch.has(link, in: "blocked", of: Self.table, over: socket) {
                if ContinuousClock.now > deadline { return }
                usleep(50)
            }
            try body()
            isDone = true
        }
        if !isDone { try body() }
    }

    /// The rules; docs/security-model.md explains them.
    ///
    /// TCP needs no connection tracking: whatever carries SYN without ACK would open a connection and is dropped, all else
    /// belongs to a connection that a client opened, maybe on another host, or is answered with a reset. That is what lets
    /// connections go on at a host that never saw them begin.
    var rules: String {
        """
        table inet smirun {
            set blocked { type ifname; }
            set sandboxes { type ifname; }
            set sources4 { type ifname . ipv4_addr; }
            set sources6 { type ifname . ipv6_addr; }
            chain block_in { type filter hook prerouting priority -450; policy accept; }
            chain block_out { type filter hook postrouting priority -450; policy accept; }
            chain source { type filter hook prerouting priority -440; policy accept; }
            chain from_sandbox { }
            chain input { type filter hook input priority -10; policy accept; }
            chain to_host { }
            chain forward { type filter hook forward priority -10; policy accept; }
        }
        flush chain inet smirun block_in
        flush chain inet smirun block_out
        flush chain inet smirun source
        flush chain inet smirun from_sandbox
        flush chain inet smirun input
        flush chain inet smirun to_host
        flush chain inet smirun forward
        table inet smirun {
            chain block_in { iifname @blocked drop; }
            chain block_out { oifname @blocked drop; }
            chain source { iifname @sandboxes jump from_sandbox; }
            chain from_sandbox {
                iifname . ip saddr @sources4 return
                iifname . ip6 saddr @sources6 return
                drop
            }
            chain input {
                iifname @sandboxes jump to_host
                ip saddr \(network4) jump to_host
                ip6 saddr \(network6) jump to_host
            }
            chain to_host {
                tcp flags & (syn | ack) == syn drop
                meta l4proto tcp accept
                ct state established,related accept
                icmp type { echo-reply, destination-unreachable, time-exceeded, parameter-problem } accept
                icmpv6 type { echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
                drop
            }
            chain forward {
                iifname @sandboxes ip daddr { \(network4), 169.254.0.0/16 } drop
                iifname @sandboxes ip6 daddr { \(network6), fe80::/10 } drop
                oifname @sandboxes ip saddr \(network4) drop
                oifname @sandboxes ip6 saddr \(network6) drop
                oifname @sandboxes tcp dport \(InitConfiguration.sessionPort) drop
            }
        }

        """
    }
}

extension SandboxAddress {
    /// Both addresses in network byte order.
    package func parsed() throws -> (ipv4: IPAddress, ipv6: IPAddress) {
        guard let v4 = IPAddress(ipv4), let v6 = IPAddress(ipv6), !v4.isIPv6, v6.isIPv6 else {
            throw IsolationError(
                .hostUnsuitable,
                cause: "\(ipv4) and \(ipv6) are not an IPv4 and an IPv6 address",
                remedy: "check the cluster's address prefixes"
            )
        }
        return (v4, v6)
    }
}
