import Foundation

@testable import Mobility

/// A program of another project, run for a test and ended by its process number.
final class Peer {
    private let process = Process()
    private let log: String

    /// Starts a program; its output goes to a file in the directory.
    init(_ arguments: [String], directory: String, name: String) throws {
        log = "\(directory)/\(name).log"
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        process.standardInput = FileHandle.nullDevice
        let output = FileHandle(forWritingAtPath: log)
        process.standardOutput = output
        process.standardError = output
        try process.run()
    }

    var output: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    /// Waits until the output holds a text, at most `seconds`.
    func wait(for text: String, seconds: Double = 20) async -> Bool {
        let end = ContinuousClock.now.advanced(by: .seconds(seconds))
        while ContinuousClock.now < end {
            if output.contains(text) { return true }
            guard process.isRunning else { break }
            try? await Task.sleep(for: .milliseconds(20))
        }
        return output.contains(text)
    }

    func stop() {
        guard process.isRunning else { return }
        process.terminate()
        process.waitUntilExit()
    }

    deinit { stop() }

    /// Runs a program to its end; returns its status and output.
    @discardableResult
    static func run(_ arguments: [String], input: String = "") throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        let (output, feed) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = output
        process.standardInput = feed
        try process.run()
        feed.fileHandleForWriting.write(Data(input.utf8))
        try feed.fileHandleForWriting.close()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    /// Whether all programs are installed.
    static func areInstalled(_ names: String...) -> Bool {
        names.allSatisfy { name in
            ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(name)") }
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

/// Two network namespaces, one of access points and one of a station, joined by a veth pair per access point, and a link
/// from the access points to us. Everything bears a random name and goes when `remove` is called.
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
            "own_ip_addr=\(theirs)", "nas_identifier=nas-\(name)", "acct_server_addr=\(ours)", "acct_server_port=\(port)",
            "acct_server_shared_secret=testing123",
        ]
        try lines.joined(separator: "\n").appending("\n").write(toFile: file, atomically: true, encoding: .utf8)
        return try Peer(["ip", "netns", "exec", accessSpace, "hostapd", file], directory: directory, name: "hostapd-\(name)-\(round)")
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
        let command = ["ip", "netns", "exec", stationSpace, "wpa_cli", "-p", "\(directory)/supplicant-\(name)", "-i", name, "logoff"]
        try Peer.run(command)
    }

    private func ip(_ arguments: String...) throws {
        let (status, output) = try Peer.run(["ip"] + arguments)
        guard status == 0 else {
            throw RoamingError(.listen, cause: "ip \(arguments.joined(separator: " ")): \(output)", remedy: "run as root")
        }
    }
}
