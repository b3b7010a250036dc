import Foundation
import LinuxSystem

extension Lab {
    /// Becomes a command inside a host: the calling process enters the host's cgroup and namespaces and is replaced, so
    /// that input, output, terminal and exit status are the command's own.
    ///
    /// Returns only by throwing.
    package func exec(_ host: String, _ argv: [String]) throws(LabError) -> Never {
        try requireRoot()
        let record = try record()
        let target = try record.host(host)
        let holder = try living(target)
        guard !argv.isEmpty else {
            throw LabError(.badArgument, cause: "no command given", remedy: "smirun lab exec \(host) -- COMMAND…")
        }
        guard let nsenter = HelperCommand.locate("nsenter") else {
            throw LabError(.toolMissing, cause: "nsenter not found", remedy: "apt-get install util-linux")
        }
        let cgroup = execCgroup(of: target)
        throw try during("entering \(host)") { () throws(SyscallError) -> LabError in
            try cgroup.create()
            try cgroup.enterToExec()
            let spaces = ["--net", "--uts", "--time", "--mount"]
            let arguments = CStringArray([nsenter, "--target", "\(holder.pid)"] + spaces + ["--wd=/", "--"] + argv)
            let variables = CStringArray(ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" })
            // Ignored signals stay ignored across exec, and the command line ignores this one.
            Glibc.signal(SIGPIPE, SIG_DFL)
            execve(nsenter, arguments.pointer, variables.pointer)
            throw SyscallError("execve", subject: nsenter)
        }
    }

    /// A command to be run inside a host, of the lab that is up; in the host's cgroup, so that `down` and `killHost`
    /// end it.
    package func command(on host: String, _ argv: [String]) throws(LabError) -> HelperCommand {
        let record = try record()
        return try command(on: record.host(host), argv, environment: record.environment)
    }

    func command(on host: LabHost, _ argv: [String]) throws(LabError) -> HelperCommand {
        try command(on: host, argv, environment: LabRecord.load(layout)?.environment ?? SpawnRequest.plainEnvironment)
    }

    private func command(
        on host: LabHost,
        _ argv: [String],
        environment: [String]
    ) throws(LabError) -> HelperCommand {
        let holder = try living(host)
        let cgroup = execCgroup(of: host)
        try during("entering \(host.name)") { () throws(SyscallError) in try cgroup.create() }
        var command = HelperCommand(argv, environment: environment)
        command.directory = "/"
        command.cgroup = cgroup
        command.namespacesOf = holder.pid
        return command
    }

    private func execCgroup(of host: LabHost) -> CgroupTree {
        CgroupTree(layout.cgroup(of: host.name) + "/exec")
    }

    private func living(_ host: LabHost) throws(LabError) -> ProcessIdentity {
        if let holder = host.holder, holder.isAlive { return holder }
        throw LabError(
            .hostDown,
            cause: "\(host.name) is down",
            remedy: "run `smirun lab up` with the lab's arguments to start it again"
        )
    }
}
