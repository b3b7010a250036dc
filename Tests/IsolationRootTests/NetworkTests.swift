import CLinux
import Glibc
import IsolationProbe
import LinuxSystem
import Testing

@testable import Isolation

/// What a sandbox's packets reach, and what reaches it.
///
/// The host is the tests' network namespace; a client elsewhere is one more namespace behind a link.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct NetworkTests {
    /// A TCP listener of the host's; the kernel answers for it, nobody accepts.
    private func listener(_ address: String, port: UInt16) throws -> Descriptor {
        let isIPv6 = address.contains(":")
        let raw = socket(isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let listener = Descriptor(owning: try syscall("socket") { raw })
        try bind(listener, address, port)
        try syscall("listen") { listen(raw, 16) }
        return listener
    }

    private func bind(_ socket: Descriptor, _ address: String, _ port: UInt16) throws {
        var one: Int32 = 1
        setsockopt(socket.raw, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        let bytes = try #require(IPAddress(address)).bytes
        // sockaddr_in and sockaddr_in6, in bytes.
        let head = Bytes.of(UInt16(bytes.count == 16 ? AF_INET6 : AF_INET)) + Bytes.of(port.bigEndian)
        let name =
            bytes.count == 16
            ? head + [0, 0, 0, 0] + bytes + [0, 0, 0, 0] : head + bytes + [UInt8](repeating: 0, count: 8)
        try syscall("bind", address) {
            name.withUnsafeBytes {
                Glibc.bind(socket.raw, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(name.count))
            }
        }
    }

    private func datagramSocket(_ address: String, port: UInt16) throws -> Descriptor {
        let isIPv6 = address.contains(":")
        let raw = socket(isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let socket = Descriptor(owning: try syscall("socket") { raw })
        try bind(socket, address, port)
        return socket
    }

    /// Whether a datagram arrives within a time.
    private func receives(_ socket: Descriptor, within milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, milliseconds) > 0 else { return false }
        var buffer = [UInt8](repeating: 0, count: 64)
        return recv(socket.raw, &buffer, buffer.count, 0) > 0
    }

    private func ip(_ arguments: String) throws {
        let result = try HelperCommand(["ip"] + arguments.split(separator: " ").map(String.init)).run()
        #expect(result.status == 0, "ip \(arguments): \(result.error)")
    }

    @Test func `neither the host nor another sandbox answers a sandbox`() async throws {
        try await TestHost.with { host, image in
            let alice = host.spec("alice", index: 60001, image: image)
            let bob = host.spec("bob", index: 60002, image: image)
            _ = try await host.host.launch(alice)
            _ = try await host.host.launch(bob)
            let services = try (listener("192.0.2.77", port: 7001), listener("2001:db8::77", port: 7001))
            let datagrams = try datagramSocket("192.0.2.77", port: 7002)
            var expected = IsolationProbe.Expectation(hostname: "alice", hostFile: host.paths.state)
            expected.unreachable = [
                ("192.0.2.77", 7001), ("2001:db8::77", 7001), ("169.254.1.1", 7001), (bob.address.ipv4, 1021),
                (bob.address.ipv6, 1021), (bob.address.ipv4, 7001),
            ]
            let probe = try IsolationProbe()
            let run = TestHost.runner(alice)
            let wrong = try await probe.check(expected, runInside: run)
            #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
            try await probe.install(run)
            _ = try await probe.run(["send", "192.0.2.77", "7002"], run)
            #expect(!receives(datagrams, within: 200))
            // Its own services it does reach, and they it.
            #expect(try await probe.run(["connect", alice.address.ipv4, "1021"], run)["connect"] == "0")
            withExtendedLifetime(services) {}
        }
    }

    @Test func `clients elsewhere reach a sandbox's services but not its init, and never by a forged source`()
        async throws
    {
        try await TestHost.with { host, image in
            let spec = host.spec(
                "alice",
                index: 60001,
                image: image,
                program: ["/bin/sh", "-c", "while :; do echo hello | /bin/nc -l -p 7003; done"]
            )
            _ = try await host.host.launch(spec)
            let client = try Client(spec)
            defer { client.remove() }
            #expect(try client.connect(to: spec.address.ipv4, port: 7003))
            #expect(try !client.connect(to: spec.address.ipv4, port: 1021))
            #expect(try !client.connect(to: spec.address.ipv6, port: 1021))
            let probe = try IsolationProbe()
            let run = TestHost.runner(spec)
            try await probe.install(run)
            let datagrams = try client.datagramSocket(port: 7004)
            _ = try await probe.run(["send", Client.address, "7004"], run)
            #expect(receives(datagrams, within: 2000))
            _ = try await probe.run(["send", Client.address, "7004", "10.88.200.200"], run)
            _ = try await probe.run(["send", Client.address, "7004", "192.0.2.77"], run)
            #expect(!receives(datagrams, within: 200))
        }
    }

    @Test func `a connection that the host has no memory of goes on`() async throws {
        try await TestHost.with { host, image in
            let script = "/bin/nc -l -p 7005 -e /bin/cat"
            let spec = host.spec("alice", index: 60001, image: image, program: ["/bin/sh", "-c", script])
            _ = try await host.host.launch(spec)
            let client = try Client(spec)
            defer { client.remove() }
            let stream = try client.stream(to: spec.address.ipv4, port: 7005)
            try client.exchange(stream, "before")
            // As after a hand-off: another host, whose connection tracking has never seen the connection.
            try forgetConnections()
            try client.exchange(stream, "after")
        }
    }

    /// Empties connection tracking (IPCTNL_MSG_CT_DELETE without a tuple).
    private func forgetConnections() throws {
        let message = NetlinkMessage(type: 1 << 8 | 2, flags: 0, fixed: [0, 0, 0, 0])
        try NetlinkSocket(.netfilter).perform([message], subject: "conntrack")
    }

    @Test func `a blocked sandbox loses every packet both ways`() async throws {
        try await TestHost.with { host, image in
            let script = "/bin/nc -l -p 7005 -e /bin/cat"
            let spec = host.spec("alice", index: 60001, image: image, program: ["/bin/sh", "-c", script])
            _ = try await host.host.launch(spec)
            let client = try Client(spec)
            defer { client.remove() }
            let stream = try client.stream(to: spec.address.ipv4, port: 7005)
            try client.exchange(stream, "before")
            try host.host.network.filter.setBlocked(true, spec.address)
            try client.send(stream, "during")
            #expect(try !client.receives(stream, "during", within: 300))
            try host.host.network.filter.setBlocked(false, spec.address)
            // TCP sends it again.
            #expect(try client.receives(stream, "during", within: 5000))
        }
    }
}

/// A client in a network namespace of its own, behind a link to the host.
private struct Client {
    static let address = "198.51.100.2"
    private let namespace: NetworkNamespace

    init(_ spec: SandboxSpec) throws {
        let (namespace, inside) = try NetworkNamespace.create(sysctls: [])
        self.namespace = namespace
        let host = try NetlinkSocket(.route)
        let (near, far): ([UInt8], [UInt8]) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2])
        try host.perform(
            [
                RouteMessages.makeVeth(
                    "smitest-client",
                    address: near,
                    group: 0,
                    peer: "eth0",
                    peerAddress: far,
                    peerNamespace: namespace.descriptor
                )
            ],
            subject: "client"
        )
        let link = try #require(try host.link("smitest-client"))
        let end = try #require(try inside.link("eth0"))
        let (address4, address6) = try (
            #require(IPAddress(Self.address)), #require(IPAddress("2001:db8:1::2"))
        )
        let (gateway4, gateway6) = try (#require(IPAddress("198.51.100.1")), #require(IPAddress("2001:db8:1::1")))
        try inside.perform(
            [
                RouteMessages.setUp(index: end.index), RouteMessages.addAddress(address4, index: end.index),
                RouteMessages.addAddress(address6, index: end.index),
                RouteMessages.addNeighbour(gateway4, hardware: near, index: end.index),
                RouteMessages.addNeighbour(gateway6, hardware: near, index: end.index),
                RouteMessages.setDefaultRoute(via: gateway4, index: end.index),
                RouteMessages.setDefaultRoute(via: gateway6, index: end.index),
            ],
            subject: "client"
        )
        try host.perform(
            [
                RouteMessages.setUp(index: link.index),
                RouteMessages.addNeighbour(address4, hardware: far, index: link.index),
                RouteMessages.addNeighbour(address6, hardware: far, index: link.index),
                RouteMessages.setRoute(to: address4, index: link.index),
                RouteMessages.setRoute(to: address6, index: link.index),
            ],
            subject: "client"
        )
        try inside.settle(link: "eth0")
    }

    func remove() {
        try? NetlinkSocket(.route).perform([RouteMessages.deleteLink("smitest-client")], subject: "client")
    }

    private func socket(_ family: Int32, _ type: __socket_type) throws -> Descriptor {
        let raw = smi_netns_socket(namespace.descriptor.raw, family, Int32(type.rawValue), 0)
        guard raw >= 0 else { throw SyscallError("socket", code: -raw) }
        return Descriptor(owning: raw)
    }

    private static func name(_ address: String, _ port: UInt16) throws -> [UInt8] {
        let bytes = try #require(IPAddress(address)).bytes
        let head = Bytes.of(UInt16(bytes.count == 16 ? AF_INET6 : AF_INET)) + Bytes.of(port.bigEndian)
        return bytes.count == 16
            ? head + [0, 0, 0, 0] + bytes + [0, 0, 0, 0] : head + bytes + [UInt8](repeating: 0, count: 8)
    }

    /// A connection, tried again while nobody listens yet.
    func stream(to address: String, port: UInt16) throws -> Descriptor {
        let deadline = ContinuousClock.now + .seconds(5)
        while true {
            let stream = try socket(address.contains(":") ? AF_INET6 : AF_INET, SOCK_STREAM)
            var timeout = timeval(tv_sec: 1, tv_usec: 0)
            setsockopt(stream.raw, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
            let name = try Self.name(address, port)
            let result = name.withUnsafeBytes {
                Glibc.connect(stream.raw, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(name.count))
            }
            let code = errno
            if result == 0 { return stream }
            guard code == ECONNREFUSED, ContinuousClock.now < deadline else {
                throw SyscallError("connect", code: code)
            }
            usleep(5000)
        }
    }

    func connect(to address: String, port: UInt16) throws -> Bool {
        do {
            _ = try stream(to: address, port: port)
            return true
        } catch let error as SyscallError {
            #expect(error.code == EINPROGRESS || error.code == ETIMEDOUT || error.code == EAGAIN)
            return false
        }
    }

    func datagramSocket(port: UInt16) throws -> Descriptor {
        let datagrams = try socket(AF_INET, SOCK_DGRAM)
        let name = try Self.name(Self.address, port)
        try syscall("bind") {
            name.withUnsafeBytes {
                Glibc.bind(datagrams.raw, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(name.count))
            }
        }
        return datagrams
    }

    func send(_ stream: Descriptor, _ text: String) throws {
        try FileContents.writeAll(Array(text.utf8), to: stream)
    }

    func receives(_ stream: Descriptor, _ text: String, within milliseconds: Int32) throws -> Bool {
        var entry = pollfd(fd: stream.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, milliseconds) > 0 else { return false }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = try syscall("read") { read(stream.raw, &buffer, buffer.count) }
        return Array(buffer[..<count]) == Array(text.utf8)
    }

    /// Sends text and expects it back.
    func exchange(_ stream: Descriptor, _ text: String) throws {
        try send(stream, text)
        #expect(try receives(stream, text, within: 5000))
    }
}
