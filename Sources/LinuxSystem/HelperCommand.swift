import Glibc

/// A command of the host's (ip, tc, nsenter, …) or one of ours, looked up by name and run with its output collected.
///
/// ``SpawnRequest`` starts it; this adds the search for the program, the namespaces of a process, a cgroup in every
/// hierarchy, input, output and a time limit.
package struct HelperCommand: Sendable {
    /// Program and arguments; a program without a slash is looked up in `PATH` and the system's directories.
    package var argv: [String]
    /// `NAME=value` entries.
    package var environment: [String]
    /// Working directory, as seen inside the namespaces.
    package var directory: String?
    /// The cgroup to start in; nil stays in the caller's.
    package var cgroup: CgroupTree?
    /// Process whose namespaces to enter, and which of them (`net`, `mnt`, `uts`, `time`).
    package var namespacesOf: Int32?
    package var namespaces: [String] = ["net", "uts", "time", "mnt"]
    /// Whether to leave the caller's session, terminal and process group.
    package var newSession = false

    /// A command in the caller's surroundings, with a plain environment unless one is given.
    package init(_ argv: [String], environment: [String] = SpawnRequest.plainEnvironment) {
        self.argv = argv
        self.environment = environment
    }

    /// Where a program is: the path itself if it has a slash, else the first match in `PATH` and the system's
    /// directories.
    package static func locate(_ program: String) -> String? {
        if program.contains("/") { return program }
        let own = getenv("PATH").map { String(cString: $0) } ?? ""
        let directories = own.split(separator: ":").map(String.init) + ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        return directories.lazy.map { $0 + "/" + program }.first { access($0, X_OK) == 0 }
    }

    /// Starts the command; the caller waits for it.
    ///
    /// Descriptors left out become `/dev/null`.
    package func start(_ descriptors: [Int32: Descriptor] = [:]) throws(SyscallError) -> ChildProcess {
        guard let name = argv.first, let path = Self.locate(name) else {
            throw SyscallError("execve", code: ENOENT, subject: argv.first)
        }
        var request = SpawnRequest(path, arguments: argv, environment: environment)
        request.directory = directory
        request.newSession = newSession
        request.descriptors = descriptors
        if let cgroup {
            for hierarchy in cgroup.hierarchies {
                let at = hierarchy.mount + cgroup.path
                if hierarchy.isUnified {
                    request.cgroup = try Descriptor(open: at, O_RDONLY | O_DIRECTORY)
                } else {
                    request.legacyCgroups.append(at)
                }
            }
        }
        if let target = namespacesOf {
            for kind in namespaces {
                request.namespaces.append(try Descriptor(open: "/proc/\(target)/ns/\(kind)", O_RDONLY))
            }
        }
        return try request.start()
    }

    /// Starts the command with its output collected and `text` as its standard input.
    package func begin(input text: String = "", timeout: Duration = .seconds(30)) throws(SyscallError) -> HelperRun {
        let output = try DescriptorPair.pipe()
        let error = try DescriptorPair.pipe()
        var descriptors = [1: output.write, 2: error.write] as [Int32: Descriptor]
        descriptors[0] = try Self.source(of: text)
        let child = try start(descriptors)
        return HelperRun(child: child, output: output.read, error: error.read, deadline: .now + timeout)
    }

    /// Runs the command to its end.
    package func run(input text: String = "", timeout: Duration = .seconds(30)) throws(SyscallError) -> HelperResult {
        try begin(input: text, timeout: timeout).finish()
    }

    /// A descriptor that gives `text` and then ends: an unlinked file, so that neither side ever waits for the other.
    private static func source(of text: String) throws(SyscallError) -> Descriptor? {
        if text.isEmpty { return nil }
        var template = Array("/tmp/smirun-input.XXXXXX".utf8CString)
        let raw = try syscall("mkstemp") { mkstemp(&template) }
        let file = Descriptor(owning: raw)
        unlink(template)
        try FileContents.writeAll(Array(text.utf8), to: file)
        try syscall("lseek") { lseek(raw, 0, SEEK_SET) }
        return file
    }
}
