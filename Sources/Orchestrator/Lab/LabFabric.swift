import Glibc
import LinuxSystem

/// The links between hosts: one bridge in a network namespace of its own, and to each host a link that is shaped on
/// both of its ends, since a queueing discipline shapes only what leaves through it.
struct LabFabric {
    let fabric: ProcessIdentity
    /// Whether each link passes through a process that delays it: then its ends are tap devices instead of a veth pair.
    let isDelayed: Bool

    /// What each host's network namespace needs before its link comes up.
    ///
    /// Addresses are usable at once (no duplicate address detection), packets are forwarded to and from sandboxes, and
    /// may come by another way than they leave.
    private static let hostScript = """
        set -e
        cd /proc/sys/net
        echo 1 > ipv4/ip_forward
        echo 0 > ipv4/conf/all/rp_filter
        echo 0 > ipv4/conf/default/rp_filter
        for conf in all default $(ls ipv6/conf | grep -x eth0); do
            echo 0 > ipv6/conf/$conf/accept_dad
            echo 0 > ipv6/conf/$conf/accept_ra
        done
        echo 1 > ipv6/conf/all/forwarding
        exec ip -batch -
        """

    /// Makes the bridge.
    func makeBridge() throws(LabError) {
        try run(
            inside: fabric,
            ["ip", "-batch", "-"],
            input: """
                link set lo up
                link add fabric type bridge stp_state 0 mcast_snooping 0
                link set fabric up

                """,
            "making the fabric"
        )
    }

    /// Links hosts to the fabric, all at once, and gives them their addresses.
    func connect(_ hosts: [LabHost]) throws(LabError) {
        var links = ""
        for host in hosts {
            guard let holder = host.holder else { continue }
            links +=
                isDelayed
                ? Self.tap(host.port) : "link add \(host.port) type veth peer name eth0 netns \(holder.pid)\n"
            links += "link set \(host.port) master fabric up\n"
        }
        try run(inside: fabric, ["ip", "-batch", "-"], input: links, "linking the hosts to the fabric")
        var started: [(LabHost, HelperRun)] = []
        for host in hosts {
            started.append(
                (host, try begin(inside: host.holder, ["sh", "-c", Self.hostScript], input: addresses(host)))
            )
        }
        for (host, run) in started { try check(run, "configuring the network of \(host.name)") }
        try shape(hosts)
    }

    /// Waits until the delayed links of all hosts carry frames: their processes have attached to both ends.
    func awaitCarriers(_ hosts: [LabHost]) throws(LabError) {
        let deadline = ContinuousClock.now + .seconds(20)
        while isDelayed {
            let links = try during("looking at the fabric") { () throws(SyscallError) in
                try command(fabric, ["ip", "-o", "link"]).run().output.split(separator: "\n")
            }
            // `5: port3: <BROADCAST,MULTICAST,UP,LOWER_UP> …`
            let ready = Set(
                links.filter { $0.contains("LOWER_UP") }.compactMap { $0.split(separator: " ").dropFirst().first }
            )
            guard let missing = hosts.first(where: { !ready.contains("\($0.port):") }) else { return }
            guard ContinuousClock.now < deadline else {
                throw LabError(
                    .timedOut,
                    cause: "the process that delays the link of \(missing.name) did not start",
                    remedy: "run `smirun lab down`, then `smirun lab up` again"
                )
            }
            // The kernel tells of a carrier by netlink only; for a start that takes 20 ms asking again is simpler.
            poll(nil, 0, 10)
        }
    }

    private func addresses(_ host: LabHost) -> String {
        (isDelayed ? Self.tap("eth0") : "")
            + """
            link set lo up
            link set eth0 address \(host.mac) up
            addr add \(host.address)/24 dev eth0
            addr add \(host.address6)/64 dev eth0 nodad

            """
    }

    /// The queue is what the process that reads the device may be late by; a shaped link queues in tc's discipline.
    private static func tap(_ name: String) -> String {
        "tuntap add dev \(name) mode tap\nlink set \(name) txqueuelen 10000\n"
    }

    /// Gives the hosts' links, both ends, the rates that the hosts name.
    func shape(_ hosts: [LabHost]) throws(LabError) {
        let ports = hosts.map { Self.discipline($0.port, $0.rate) }.joined()
        try run(inside: fabric, ["tc", "-batch", "-"], input: ports, "shaping the links")
        var started: [(LabHost, HelperRun)] = []
        for host in hosts {
            let input = Self.discipline("eth0", host.rate)
            started.append((host, try begin(inside: host.holder, ["tc", "-batch", "-"], input: input)))
        }
        for (host, run) in started { try check(run, "shaping the link of \(host.name)") }
    }

    /// An unshaped link gets the discipline that it would have had by default.
    private static func discipline(_ link: String, _ rate: LinkRate) -> String {
        "qdisc replace dev \(link) root \(rate.queueDiscipline ?? "noqueue")\n"
    }

    /// Drops everything on a host's link, both ways and silently, as a broken path does: the carrier stays.
    func cut(_ host: LabHost) throws(LabError) {
        try run(inside: fabric, ["ip", "link", "set", host.port, "nomaster"], "cutting the link of \(host.name)")
    }

    /// Lets a link that was cut carry packets again.
    func restore(_ host: LabHost) throws(LabError) {
        let argv = ["ip", "link", "set", host.port, "master", "fabric"]
        try run(inside: fabric, argv, "restoring the link of \(host.name)")
    }

    /// Removes what is left of a host's link on the fabric's side, if anything.
    func disconnect(_ host: LabHost) throws(LabError) {
        let what = "removing the link of \(host.name)"
        let result = try during(what) { () throws(SyscallError) in
            try command(fabric, ["ip", "link", "del", "dev", host.port]).run()
        }
        // The kernel takes it away by itself, at a time of its own, when the network namespace at its other end has gone.
        if !result.error.contains("Cannot find device") { try check(result, what) }
    }

    private func command(_ target: ProcessIdentity, _ argv: [String]) -> HelperCommand {
        var command = HelperCommand(argv)
        command.namespacesOf = target.pid
        command.namespaces = ["net"]
        return command
    }

    private func begin(inside target: ProcessIdentity?, _ argv: [String], input: String) throws(LabError) -> HelperRun {
        guard let target else {
            throw LabError(.hostDown, cause: "the host is down", remedy: "run `smirun lab up` again")
        }
        return try during("running \(argv[0])") { () throws(SyscallError) in
            try command(target, argv).begin(input: input)
        }
    }

    private func run(
        inside target: ProcessIdentity,
        _ argv: [String],
        input: String = "",
        _ doing: String
    ) throws(LabError) {
        try check(begin(inside: target, argv, input: input), doing)
    }

    private func check(_ run: HelperRun, _ doing: String) throws(LabError) {
        try check(during(doing) { () throws(SyscallError) in try run.finish() }, doing)
    }

    private func check(_ result: HelperResult, _ doing: String) throws(LabError) {
        if result.status == 0 && !result.timedOut { return }
        throw LabError(
            .hostUnsuitable,
            cause: "\(doing) failed: \(result.timedOut ? "no end within 30 s" : result.error.trimmed.tail(lines: 3))",
            remedy: "the kernel must have veth, bridge and tbf; `smirun doctor` shows what it has"
        )
    }
}
