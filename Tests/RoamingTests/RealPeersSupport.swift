import Foundation

@testable import Mobility

/// A program of another project, run for a test and ended by its process number.
///
/// Started with no signal blocked: threads of a test run block most, and what is spawned from them would inherit that and
/// never hear SIGTERM.
final class Peer {
    private let log: String
    private let process: pid_t
    private var status: Int32?

    /// Starts a program; its output goes to a file in the directory.
    init(_ arguments: [String], directory: String, name: String, input: String = "/dev/null") throws {
        log = "\(directory)/\(name).log"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let words = (["/usr/bin/env"] + arguments).map { strdup($0) }
        let environment = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
        defer { (words + environment).forEach { free($0) } }
        var pid: pid_t = 0
        let problem = posix_spawn(&pid, "/usr/bin/env", &actions, &attributes, words + [nil], environment)
        guard problem == 0 else {
            throw RoamingError(.trace, cause: "cannot start \(arguments): errno \(problem)", remedy: "install it")
        }
        process = pid
    }

    var output: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    /// Exit status, 128 plus the signal that ended it, or nil while it runs.
    private func poll() -> Int32? {
        if let status { return status }
        var raw: Int32 = 0
        guard waitpid(process, &raw, WNOHANG) == process else { return nil }
        status = raw & 0x7f == 0 ? raw >> 8 & 0xff : 128 + raw & 0x7f
        return status
    }

    /// Waits until the output holds a text, at most `seconds`.
    func wait(for text: String, seconds: Double = 20) async -> Bool {
        let end = ContinuousClock.now.advanced(by: .seconds(seconds))
        while ContinuousClock.now < end, !output.contains(text), poll() == nil {
            try? await Task.sleep(for: .milliseconds(20))
        }
        return output.contains(text)
    }

    /// Waits for the program to end by itself, at most `seconds`, then ends it.
    @discardableResult
    func finish(seconds: Double = 20) -> Int32 {
        let end = ContinuousClock.now.advanced(by: .seconds(seconds))
        while ContinuousClock.now < end {
            if let status = poll() { return status }
            usleep(2000)
        }
        kill(process, SIGKILL)
        var raw: Int32 = 0
        if status == nil { waitpid(process, &raw, 0) }
        status = status ?? 137
        return 137
    }

    /// Asks the program to end, and insists after a while.
    func stop() {
        guard poll() == nil else { return }
        kill(process, SIGTERM)
        finish(seconds: 5)
    }

    deinit { stop() }

    /// Runs a program to its end; returns its status and output.
    @discardableResult
    static func run(_ arguments: [String], input: String = "") throws -> (status: Int32, output: String) {
        let directory = "/tmp/smirun-roaming-run-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try input.write(toFile: "\(directory)/input", atomically: true, encoding: .utf8)
        let peer = try Peer(arguments, directory: directory, name: "run", input: "\(directory)/input")
        let status = peer.finish()
        return (status, peer.output)
    }

    /// Whether all programs are installed.
    static func areInstalled(_ names: String...) -> Bool {
        names.allSatisfy { name in
            ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].contains {
                FileManager.default.isExecutableFile(atPath: "\($0)/\(name)")
            }
        }
    }
}

/// A directory for one test.
func withDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let path = "/tmp/smirun-roaming-\(UInt32.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(
        atPath: path,
        withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o755]
    )
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try await body(path)
}

/// A free UDP port of the loopback address.
func freePort() -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    return withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, length)
            getsockname(descriptor, $0, &length)
        }
        return Int(UInt16(bigEndian: $0.pointee.sin_port))
    }
}

/// FreeRADIUS as a proxy in front of us: a configuration of its own, nothing of the machine's.
func proxyConfiguration(directory: String, listen: Int, upstream: Int) -> String {
    """
    prefix = /usr
    localstatedir = \(directory)
    logdir = \(directory)
    raddbdir = \(directory)
    run_dir = \(directory)
    libdir = /usr/lib/freeradius
    pidfile = \(directory)/radiusd.pid
    security {
        allow_core_dumps = no
    }
    log {
        destination = stdout
    }
    proxy_requests = yes
    thread pool {
        start_servers = 1
        max_servers = 2
        min_spare_servers = 1
        max_spare_servers = 2
        max_requests_per_server = 0
    }
    proxy server {
        default_fallback = no
    }
    home_server smirun {
        type = acct
        ipaddr = 127.0.0.1
        port = \(upstream)
        secret = testing123
        response_window = 5
        status_check = status-server
    }
    home_server_pool smirun {
        type = fail-over
        home_server = smirun
    }
    realm smirun {
        acct_pool = smirun
        nostrip
    }
    client loopback {
        ipaddr = 127.0.0.1
        secret = proxied
    }
    modules {
    }
    server acct {
        listen {
            type = acct
            ipaddr = 127.0.0.1
            port = \(listen)
        }
        preacct {
            update control {
                &Proxy-To-Realm := "smirun"
            }
        }
        accounting {
        }
    }

    """
}

/// Two network namespaces, one of access points and one of a station, joined by a veth pair per access point, and a
/// link from the access points to us.
///
/// Everything bears a random name and goes when `remove` is called.
struct WiredAccessNetwork {
    let prefix: String
    let directory: String
    let subnet: Int
    private let accessPoints: [String]

    var accessSpace: String { "\(prefix)a" }
    var stationSpace: String { "\(prefix)s" }
    /// Our address on the link to the access points, and theirs.
    var ours: String { "10.231.\(subnet).1" }
    var theirs: String { "10.231.\(subnet).2" }

    init(accessPoints: [String], directory: String) throws {
        prefix = "smirt" + String(UInt16.random(in: 0 ... .max), radix: 36)
        subnet = Int.random(in: 1...250)
        self.directory = directory
        self.accessPoints = accessPoints
        do {
            try build()
        } catch {
            remove()
            throw error
        }
    }

    private func build() throws {
        try ip("netns", "add", accessSpace)
        try ip("netns", "add", stationSpace)
        try ip("link", "add", "\(prefix)u", "type", "veth", "peer", "name", "uplink", "netns", accessSpace)
        try ip("addr", "add", "\(ours)/30", "dev", "\(prefix)u")
        try ip("link", "set", "\(prefix)u", "up")
        try ip("-n", accessSpace, "addr", "add", "\(theirs)/30", "dev", "uplink")
        for link in ["uplink", "lo"] { try ip("-n", accessSpace, "link", "set", link, "up") }
        for (number, name) in accessPoints.enumerated() {
            try ip("-n", accessSpace, "link", "add", name, "type", "veth", "peer", "name", name, "netns", stationSpace)
            try ip("-n", accessSpace, "link", "set", name, "address", "02:00:00:00:0a:0\(number + 1)", "up")
            // The same station on every wire, as one radio is at every access point.
            try ip("-n", stationSpace, "link", "set", name, "address", "02:00:00:00:05:01", "up")
        }
    }

    /// Removes everything, whatever is there.
    func remove() {
        _ = try? Peer.run(["ip", "netns", "del", stationSpace])
        _ = try? Peer.run(["ip", "netns", "del", accessSpace])
        _ = try? Peer.run(["ip", "link", "del", "\(prefix)u"])
    }

    func controlSocket(_ name: String) -> String { "\(directory)/ctrl-\(name)/\(name)" }

    /// hostapd as an authenticator on a wire, with its own EAP server, accounting to us.
    func startHostapd(_ name: String, port: Int, round: Int = 0) throws -> Peer {
        let users = "\(directory)/users"
        try "\"ann\" MD5 \"secret\"\n".write(toFile: users, atomically: true, encoding: .utf8)
        let file = "\(directory)/hostapd-\(name).conf"
        let lines = [
            "interface=\(name)", "driver=wired", "logger_stdout=-1", "logger_stdout_level=1",
            "ctrl_interface=\(directory)/ctrl-\(name)", "ieee8021x=1", "eap_server=1", "eap_user_file=\(users)",
            "own_ip_addr=\(theirs)", "nas_identifier=nas-\(name)", "acct_server_addr=\(ours)",
            "acct_server_port=\(port)",
            "acct_server_shared_secret=testing123",
        ]
        try lines.joined(separator: "\n").appending("\n").write(toFile: file, atomically: true, encoding: .utf8)
        return try Peer(
            ["ip", "netns", "exec", accessSpace, "hostapd", file],
            directory: directory,
            name: "hostapd-\(name)-\(round)"
        )
    }

    /// wpa_supplicant of the station on the wire of an access point.
    func startSupplicant(_ name: String, round: Int = 0) throws -> Peer {
        let file = "\(directory)/supplicant-\(name).conf"
        let lines = [
            "ctrl_interface=\(directory)/supplicant-\(name)", "ap_scan=0", "network={", "key_mgmt=IEEE8021X", "eap=MD5",
            "identity=\"ann\"", "password=\"secret\"", "eapol_flags=0", "}",
        ]
        try lines.joined(separator: "\n").appending("\n").write(toFile: file, atomically: true, encoding: .utf8)
        let command = ["ip", "netns", "exec", stationSpace, "wpa_supplicant", "-D", "wired", "-i", name, "-c", file]
        return try Peer(command, directory: directory, name: "supplicant-\(name)-\(round)")
    }

    /// The station says good-bye on a wire (EAPOL-Logoff).
    func logOff(_ name: String) throws {
        let command = [
            "ip", "netns", "exec", stationSpace, "wpa_cli", "-p", "\(directory)/supplicant-\(name)", "-i", name,
            "logoff",
        ]
        try Peer.run(command)
    }

    private func ip(_ arguments: String...) throws {
        let (status, output) = try Peer.run(["ip"] + arguments)
        guard status == 0 else {
            throw RoamingError(
                .listen,
                cause: "ip \(arguments.joined(separator: " ")): \(output)",
                remedy: "run as root"
            )
        }
    }
}
