import LinuxSystem

/// Where a lab keeps things.
///
/// The hosts see the ordinary paths of an installed system; only the lab knows both.
package struct LabLayout: Sendable, Equatable {
    /// The state directory as each host sees it; on the machine itself it holds the images, shared by all, and the lab.
    package var state: String
    /// The run directory as each host sees it; on the machine itself it holds links to the first host's sockets.
    package var run: String
    /// The configuration directory as each host sees it.
    package var configuration: String
    /// Below every cgroup hierarchy: all that the lab runs.
    package var cgroup: String
    /// Base images, shared by all hosts; kept by `lab down`.
    package var images: String

    /// The layout; the defaults are those of an installed system.
    package init(
        state: String = "/var/lib/smirun",
        run: String = "/run/smirun",
        configuration: String = "/etc/smirun",
        cgroup: String = "/smirun-lab",
        images: String? = nil
    ) {
        self.state = state
        self.run = run
        self.configuration = configuration
        self.cgroup = cgroup
        self.images = images ?? state + "/images"
    }

    /// The lab's own directory; removed by `lab down`.
    package var directory: String { state + "/lab" }
    /// What the lab consists of, ``LabRecord``.
    package var record: String { directory + "/lab.json" }
    /// What the supervisor runs, ``SupervisorRecord``.
    package var supervisorRecord: String { directory + "/supervisor.json" }
    package var supervisorLog: String { directory + "/supervisor.log" }
    /// Written to by whoever changed the record, read by the supervisor.
    var supervisorPipe: String { directory + "/supervisor.pipe" }
    /// Held by the supervisor while it runs.
    package var supervisorLock: String { directory + "/supervisor.lock" }
    /// Held by the command that changes the lab; beside the lab's directory, as that comes and goes.
    package var lock: String { state + "/.lab.lock" }
    /// The configuration file as each host sees it.
    package var configurationFile: String { configuration + "/smirun.toml" }

    /// The names of the sockets that the command line uses.
    package static let sockets = ["smirun.sock", "session.sock"]

    /// The layout as options of the lab's hidden commands.
    var arguments: [String] {
        [
            "--state", state, "--run", run, "--configuration", configuration, "--cgroup", cgroup,
            "--images", images,
        ]
    }

    /// One host's files, as the machine itself sees them.
    package func files(of host: String) -> HostFiles {
        HostFiles(directory: directory + "/" + host)
    }

    /// One host's cgroups: `daemon`, `holder`, `exec`, and `smis`, `aux` made by its daemon.
    package func cgroup(of host: String) -> String { cgroup + "/" + host }

    /// A path of a host's run directory, as the machine itself reaches it.
    package func reach(_ name: String, holder: Int32) -> String { "/proc/\(holder)/root\(run)/\(name)" }

    /// One host's files, as the machine itself sees them.
    package struct HostFiles: Sendable {
        /// Holds all of them.
        package let directory: String
        /// The host's state directory.
        package var state: String { directory + "/state" }
        /// The host's configuration directory.
        package var configuration: String { directory + "/etc" }
        /// What its daemon prints.
        package var log: String { directory + "/daemon.log" }
    }
}
