// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

// Command go-snapshotter serves the stargz snapshotter's library to a containerd as proxy plugin. Distributions that
// package ctr-remote without the snapshotter daemon (Debian 12) get a lazy mount to test against this way.
//
//	go-snapshotter SOCKET ROOT
//
// It prints "ready" once it listens and unmounts everything on SIGTERM.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/service"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go-snapshotter SOCKET ROOT")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(socket, root string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	snapshotter, err := service.NewStargzSnapshotterService(ctx, root, &service.Config{Config: config.Config{
		// What is fetched must be what was read: a background download would hide a layer that cannot be read lazily.
		NoBackgroundFetch: true,
		NoPrometheus:      true,
	}})
	if err != nil {
		return fmt.Errorf("snapshotter: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	fmt.Println("ready")
	err = server.Serve(listener)
	if closed := snapshotter.Close(); err == nil {
		err = closed
	}
	return err
}
