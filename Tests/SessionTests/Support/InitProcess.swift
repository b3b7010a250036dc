import Glibc
import LinuxSystem

@testable import Isolation

/// smi-init as an ordinary child of the test, on a port of the kernel's choice.
final class InitProcess: Sendable {
    struct StartFailure: Error {
        let status: InitStatus?
        let exit: Int32
    }

    /// Built by `make helpers`; `SMIRUN_LIBEXEC` names another place.
    static let executable: String = {
        if let directory = getenv("SMIRUN_LIBEXEC") { return String(cString: directory) + "/smi-init" }
        let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        return "/" + root + "/out/libexec/smirun/smi-init"
    }()

    let child: ChildProcess
    let endpoint: InitEndpoint
    let status: InitStatus
    let directory: String

    var logPath: String { directory + "/log/smi.log" }

    init(_ program: [String] = [], environment: [String] = [], logLimit: UInt32 = 0) throws {
        directory = try temporaryDirectory()
        let configuration = InitConfiguration(
            secret: (0..<32).map { _ in .random(in: .min ... .max) },
            program: program,
            environment: environment,
            port: 0,
            log: directory + "/log/smi.log",
            logLimit: logLimit
        )
        let (child, record) = try Self.start(configuration.encoded())
        guard let status = InitStatus(decoding: record), status.stage == .running else {
            let exit = try child.wait().code
            removeDirectory(directory)
            throw StartFailure(status: InitStatus(decoding: record), exit: exit)
        }
        self.child = child
        self.status = status
        endpoint = InitEndpoint(address: "127.0.0.1", port: status.port, secret: configuration.secret)
    }

    /// Starts it with these bytes as its configuration; returns it with its status record.
    static func start(_ configuration: [UInt8]) throws -> (ChildProcess, [UInt8]) {
        let file = try DescriptorPassing.memoryFile("configuration")
        _ = configuration.withUnsafeBytes { write(file.raw, $0.baseAddress, $0.count) }
        lseek(file.raw, 0, SEEK_SET)
        let report = try DescriptorPassing.pipe()
        var request = SpawnRequest(executable, arguments: ["smi-init"])
        request.descriptors = [3: file, 4: report.write]
        let child = try request.start()
        request.descriptors = [:]
        report.write.close()
        // To the end: smi-init then has closed both descriptors.
        return (child, readToEnd(report.read.raw))
    }

    /// Stops it in an orderly way, and returns its exit status.
    @discardableResult func stop(within milliseconds: Int32 = 5000) throws -> Int32 {
        try child.signal(SIGTERM)
        if try !child.hasEnded(within: milliseconds) {
            try child.signal(SIGKILL)
        }
        removeDirectory(directory)
        return try child.wait().code
    }

    func dial() throws -> SessionLink {
        SessionLink(stream: try InitConnection.connect(endpoint))
    }

    var dialler: SessionDial {
        { try self.dial() }
    }

    /// Descriptors that it has open.
    var descriptorCount: Int {
        listDirectory("/proc/\(child.pid)/fd").count
    }

    /// Kilobytes of a line of /proc/PID/status.
    func kilobytes(_ name: String) -> Int {
        let lines = readText("/proc/\(child.pid)/status").split(separator: "\n")
        let line = lines.first { $0.hasPrefix(name + ":") } ?? ""
        return Int(line.split(separator: " ").dropFirst().first ?? "") ?? Int(line.filter(\.isNumber)) ?? -1
    }

    /// Processor time used so far, clock ticks.
    var ticks: Int {
        let fields = readText("/proc/\(child.pid)/stat").split(separator: " ")
        return fields.count > 14 ? (Int(fields[13]) ?? 0) + (Int(fields[14]) ?? 0) : -1
    }
}

func temporaryDirectory() throws -> String {
    var template = Array("/tmp/smi-session-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SyscallError("mkdtemp") }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

func removeDirectory(_ path: String) {
    for name in listDirectory(path) {
        let entry = path + "/" + name
        if unlink(entry) != 0 { removeDirectory(entry) }
    }
    rmdir(path)
}

func listDirectory(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

func readBytes(_ path: String) -> [UInt8] {
    guard let file = try? Descriptor(open: path, O_RDONLY) else { return [] }
    return readToEnd(file.raw)
}

func readText(_ path: String) -> String {
    String(decoding: readBytes(path), as: UTF8.self)
}

func readToEnd(_ descriptor: Int32) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = read(descriptor, &buffer, buffer.count)
        let code = errno
        if count > 0 { bytes += buffer[..<count] } else if count == 0 || code != EINTR { return bytes }
    }
}

/// Compares without a description of the difference, which for megabytes takes for ever to make.
func isSame(_ some: [UInt8], _ other: [UInt8]) -> Bool {
    some == other
}

/// Waits until a condition holds; false after the time.
func eventually(within time: Duration = .seconds(10), _ condition: () throws -> Bool) async rethrows -> Bool {
    let deadline = ContinuousClock.now + time
    while ContinuousClock.now < deadline {
        if try condition() { return true }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return try condition()
}
